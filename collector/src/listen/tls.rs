//! TLS by rustls: certificate and key from files that may change, handshakes bounded in number and
//! time.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use axum::response::Response;
use http::HeaderValue;
use http::header::{SET_COOKIE, STRICT_TRANSPORT_SECURITY};
use rrd::Timestamp;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use super::{Patience, certificate};
use crate::probe::certificate::not_after;

/// How often the files are looked at: renewed certificates overlap by days.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A longer file is no certificate.
const FILE_BYTES: u64 = 1 << 20;
/// A day: as long as browsers shall remember that we speak TLS.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=86400");

/// Where certificates and keys are, all PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Our certificate and those between it and its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authorities whose certificates clients must present.
    pub client_authority: Option<PathBuf>,
}

/// Why TLS cannot be offered with what the files hold.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {reason}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {problem}", file.display())]
    Content {
        /// Which.
        file: PathBuf,
        /// What is wrong, and the remedy.
        problem: String,
    },
}

/// What a client's certificate calls it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientName(pub Arc<str>);

/// The present certificate. Handshakes begun keep what they began with.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    config: Arc<ServerConfig>,
    /// When the first certificate of the chain in use ends.
    ends_at: Option<Timestamp>,
    /// Of the files when they were last looked at.
    seen: [u8; 32],
    /// Whether what was seen was put to use, or told to be of none. Files that do not fit together
    /// may be about to: whoever renews them writes one after the other.
    is_settled: bool,
    problem: Option<String>,
}

impl Tls {
    /// TLS with what the files hold now.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let contents = Contents::read(&files)?;
        let state = State {
            config: contents.config(&files)?,
            ends_at: contents.ends_at(),
            seen: contents.digest(),
            is_settled: true,
            problem: None,
        };
        Ok(Self { files, state: RwLock::new(state) })
    }

    /// Looks whether the files have changed. What cannot be used leaves all as it was, and is told
    /// once and by [`Tls::problem`].
    pub fn look(&self) {
        let read = Contents::read(&self.files);
        let seen = match &read {
            Ok(contents) => contents.digest(),
            Err(error) => Sha256::digest(error.to_string()).into(),
        };
        let was_seen = {
            let state = self.read();
            if state.seen == seen && state.is_settled {
                return;
            }
            state.seen == seen
        };
        let renewed =
            read.and_then(|contents| Ok((contents.config(&self.files)?, contents.ends_at())));
        let mut state = self.write();
        (state.seen, state.is_settled) = (seen, was_seen || renewed.is_ok());
        if !state.is_settled {
            return;
        }
        match renewed {
            Ok((config, ends_at)) => {
                info!(certificate = %self.files.certificate.display(), "TLS files reloaded");
                (state.config, state.ends_at) = (config, ends_at);
                state.problem = None;
            }
            Err(error) => {
                warn!(%error, "the new TLS files cannot be used; the former ones stay in use");
                state.problem = Some(error.to_string());
            }
        }
    }

    /// Why the files as they are now are not in use.
    pub fn problem(&self) -> Option<String> {
        self.read().problem.clone()
    }

    /// When the first certificate of the chain in use ends; `None` when it does not say so.
    pub fn ends_at(&self) -> Option<Timestamp> {
        self.read().ends_at
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.read().config.clone())
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Looks at the files every few seconds until `shutdown` ends.
pub async fn watch_files(tls: Arc<Tls>, shutdown: impl Future<Output = ()>) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            _ = tick.tick() => {}
        }
        let tls = tls.clone();
        // A panic there leaves what is in use.
        let _looked = tokio::task::spawn_blocking(move || tls.look()).await;
    }
}

/// Begins connections.
#[derive(Clone)]
pub(super) struct Handshakes {
    tls: Arc<Tls>,
    places: Arc<Semaphore>,
    patience: Duration,
}

impl Handshakes {
    pub(super) fn new(tls: Arc<Tls>, patience: Patience) -> Self {
        let places = Arc::new(Semaphore::new(patience.handshake_limit));
        Self { tls, places, patience: patience.handshake }
    }

    /// Speaks TLS with a client and learns its name, where it must have one.
    pub(super) async fn greet(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<ClientName>)> {
        let spoken = async {
            let _place = self.places.acquire().await.expect("the semaphore is never closed");
            self.tls.acceptor().accept(stream).await
        };
        let stream = timeout(self.patience, spoken).await??;
        let name = match stream.get_ref().1.peer_certificates() {
            None => None,
            Some(chain) => {
                let name = chain.first().and_then(certificate::name);
                let name =
                    name.ok_or_else(|| io::Error::other("the client's certificate names nobody"))?;
                Some(ClientName(name.into()))
            }
        };
        Ok((stream, name))
    }
}

/// Marks answers that went by TLS: browsers send cookies and ask again by TLS only.
pub(super) async fn mark(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    headers.insert(STRICT_TRANSPORT_SECURITY, HSTS);
    let cookies: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().cloned().collect();
    headers.remove(SET_COOKIE);
    for cookie in cookies {
        let is_marked = cookie.to_str().is_ok_and(|text| text.ends_with("; Secure"));
        let marked = [cookie.as_bytes(), if is_marked { b"" } else { b"; Secure" }].concat();
        headers.append(SET_COOKIE, HeaderValue::from_bytes(&marked).unwrap_or(cookie));
    }
    answer
}

/// What the files hold.
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_authority: Option<Vec<u8>>,
}

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: read(&files.certificate, false)?,
            key: read(&files.key, true)?,
            client_authority: files
                .client_authority
                .as_deref()
                .map(|file| read(file, false))
                .transpose()?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for part in
            [&self.certificate, &self.key, self.client_authority.as_ref().unwrap_or(&vec![])]
        {
            digest.update(Sha256::digest(part));
        }
        digest.finalize().into()
    }

    /// When the first certificate ends.
    fn ends_at(&self) -> Option<Timestamp> {
        let chain = CertificateDer::pem_slice_iter(&self.certificate).flatten();
        chain.filter_map(|one| not_after(&one)).min().map(Timestamp::from_secs)
    }

    fn config(&self, files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
        let chain = certificates(&files.certificate, &self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| content(&files.key, format!("no private key in PEM: {error}")))?;
        let provider = Arc::new(ring::default_provider());
        let versions = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring has ciphers for TLS 1.2 and 1.3");
        let clients = match (&files.client_authority, &self.client_authority) {
            (Some(file), Some(pem)) => {
                versions.with_client_cert_verifier(client_verifier(file, pem, provider)?)
            }
            _ => versions.with_no_client_auth(),
        };
        let mut config = clients.with_single_cert(chain, key).map_err(|error| {
            let problem = match error {
                rustls::Error::InconsistentKeys(_) => {
                    format!("it is not the certificate of {}", files.key.display())
                }
                other => other.to_string(),
            };
            content(&files.certificate, problem)
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn client_verifier(
    file: &Path,
    pem: &[u8],
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(file, pem)? {
        roots.add(root).map_err(|error| content(file, error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| content(file, error.to_string()))
}

/// All certificates in a text; at least one.
pub(crate) fn certificates(
    file: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => {
            Err(content(file, "no certificate in PEM; it begins with -----BEGIN CERTIFICATE-----"))
        }
        Err(error) => Err(content(file, format!("not PEM: {error}"))),
    }
}

/// The bytes of a small file; a secret one must not be open to everybody.
pub(crate) fn read(file: &Path, is_secret: bool) -> Result<Vec<u8>, TlsError> {
    let failed = |reason| TlsError::File { file: file.to_owned(), reason };
    let opened = File::open(file).map_err(failed)?;
    let mode = opened.metadata().map_err(failed)?.permissions().mode();
    if is_secret && mode & 0o007 != 0 {
        return Err(content(file, "everybody may read or write this key; chmod o-rwx it"));
    }
    let mut bytes = Vec::new();
    opened.take(FILE_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn content(file: &Path, problem: impl Into<String>) -> TlsError {
    TlsError::Content { file: file.to_owned(), problem: problem.into() }
}
