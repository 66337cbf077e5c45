//! Bodies that come packed: unpacked as their `Content-Encoding` says, never beyond a limit.

use std::io::Read;

use bytes::Bytes;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use crate::intake::Denial;
use crate::intake::admission::{Held, Room};

/// Bytes unpacked before room is taken for more: a bomb shall not cost what it claims.
const STEP: usize = 256 << 10;

impl Room {
    /// `body` as its sender packed it: gzip, deflate or not at all. Room for what comes out is taken
    /// as it comes.
    pub(in crate::intake) fn unpack(
        &self,
        held: &mut Held,
        headers: &HeaderMap,
        (body, limit): (Bytes, usize),
    ) -> Result<Bytes, Denial> {
        let encoding = headers.get(CONTENT_ENCODING).map_or(Ok("identity"), |value| value.to_str());
        match encoding.unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(body),
            "gzip" | "x-gzip" => self.drain(held, MultiGzDecoder::new(&body[..]), limit),
            "deflate" => self.drain(held, ZlibDecoder::new(&body[..]), limit),
            other => Err(Denial::unsupported(format!(
                "Content-Encoding: {other} is not taken; send gzip, deflate or plain"
            ))),
        }
    }

    /// In pieces, which are joined once all are there: a buffer that grows is copied as often as it
    /// doubles, and for a while is held twice.
    fn drain(&self, held: &mut Held, mut packed: impl Read, limit: usize) -> Result<Bytes, Denial> {
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        let mut len = 0;
        loop {
            let mut piece = Vec::with_capacity(if pieces.is_empty() { 0 } else { STEP });
            let step = u64::try_from(STEP).expect("a small constant");
            let read = packed.by_ref().take(step).read_to_end(&mut piece);
            len += read.map_err(|error| {
                Denial::bad(format!("the body cannot be unpacked: {error}; send it whole"))
            })?;
            if len > limit {
                return Err(Denial::large(limit));
            }
            if piece.is_empty() {
                return Ok(Bytes::from(match pieces.pop() {
                    Some(only) if pieces.is_empty() => only,
                    last => {
                        pieces.extend(last);
                        pieces.concat()
                    }
                }));
            }
            self.add(held, piece.len())?;
            pieces.push(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use axum::body::Body;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    const LIMIT: usize = 1 << 20;

    async fn unpacked(encoding: &str, body: Vec<u8>) -> Result<Bytes, Denial> {
        let room = Room::new();
        let (mut held, body) = room.body(&HeaderMap::new(), Body::from(body), LIMIT).await?;
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, encoding.parse().unwrap())]);
        room.unpack(&mut held, &headers, (body, LIMIT))
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    #[tokio::test]
    async fn a_body_is_unpacked_as_its_encoding_says() {
        let mut deflate = ZlibEncoder::new(Vec::new(), Compression::fast());
        deflate.write_all(b"hello").unwrap();
        for (encoding, body) in [
            ("identity", b"hello".to_vec()),
            ("gzip", gzip(b"hello")),
            ("GZIP", [gzip(b"he"), gzip(b"llo")].concat()),
            ("deflate", deflate.finish().unwrap()),
        ] {
            assert_eq!(unpacked(encoding, body).await.unwrap(), "hello", "{encoding}");
        }
    }

    #[tokio::test]
    async fn bombs_halves_and_strange_encodings_are_refused() {
        let cut = gzip(b"hello");
        for (encoding, body, status) in [
            ("gzip", gzip(&vec![0; LIMIT + 1]), 413),
            ("gzip", gzip(&vec![0; 64 * LIMIT]), 413),
            ("gzip", cut[..cut.len() - 3].to_vec(), 400),
            ("gzip", b"not gzip".to_vec(), 400),
            ("br", b"x".to_vec(), 415),
        ] {
            let denied = unpacked(encoding, body).await.unwrap_err();
            assert_eq!(denied.status().as_u16(), status, "{encoding}");
        }
        assert_eq!(unpacked("gzip", gzip(&vec![0; LIMIT])).await.unwrap().len(), LIMIT);
    }
}
