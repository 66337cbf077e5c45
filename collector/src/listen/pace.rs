//! A pace for clients: after a request's first byte the rest of its headers must follow in time, and
//! answers must be read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Shared by a connection's bytes and its service: how far its requests are.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    header: Duration,
    stall: Duration,
    progress: Arc<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    heads: AtomicU64,
    answering: AtomicBool,
}

impl Pace {
    /// `header` is for the headers of a request, `stall` for a client to read more of an answer.
    pub(super) fn new(header: Duration, stall: Duration) -> Self {
        Self { header, stall, progress: Arc::default() }
    }

    /// The headers are complete.
    pub(super) fn answering(&self) {
        self.progress.heads.fetch_add(1, Ordering::Relaxed);
        self.progress.answering.store(true, Ordering::Relaxed);
    }

    /// The next byte begins the next request.
    pub(super) fn idle(&self) {
        self.progress.answering.store(false, Ordering::Relaxed);
    }
}

/// A stream whose reads fail when headers take too long, and whose writes fail when nobody reads.
#[derive(Debug)]
pub(super) struct Paced<T> {
    stream: T,
    pace: Pace,
    heads: u64,
    deadline: Option<Pin<Box<Sleep>>>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T> Paced<T> {
    pub(super) fn new(stream: T, pace: Pace) -> Self {
        Self { stream, pace, heads: 0, deadline: None, stalled: None }
    }

    /// What became of a write, unless the client has taken nothing for too long.
    fn unless_stalled<R>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.pace.stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Paced<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let heads = self.pace.progress.heads.load(Ordering::Relaxed);
        if heads != self.heads {
            self.heads = heads;
            self.deadline = None;
        }
        if self.pace.progress.answering.load(Ordering::Relaxed) {
            return read;
        }
        if read.is_ready() && buffer.filled().len() > before && self.deadline.is_none() {
            let end = Instant::now() + self.pace.header;
            self.deadline = Some(Box::pin(tokio::time::sleep_until(end)));
        }
        // A sender that drips bytes is never pending for long, so the deadline is asked on every
        // read.
        let deadline = self.deadline.as_mut();
        if deadline.is_some_and(|deadline| deadline.as_mut().poll(context).is_ready()) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Paced<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.unless_stalled(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.unless_stalled(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
