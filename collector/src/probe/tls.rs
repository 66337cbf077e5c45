//! TLS to a target: the handshake, whom it is trusted for, and when the first of its certificates ends.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsConnector, rustls};

use super::certificate::not_after;
use super::{Report, Trouble, provider};

/// Who vouches for targets.
#[derive(Clone, Debug)]
pub(super) struct Trust {
    verifier: Arc<WebPkiServerVerifier>,
    /// Any certificate will do; that of an appliance, say.
    is_blind: bool,
}

/// What a probe's table says of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) ca_file: Option<std::path::PathBuf>,
    pub(super) insecure: bool,
}

impl Written {
    /// The roots of the web, or those of the file. Errors with what is wrong with it.
    pub(super) fn trust(&self) -> Result<Trust, String> {
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                let bad =
                    |why: &dyn std::fmt::Display| format!("ca_file {}: {why}", path.display());
                let certificates = CertificateDer::pem_file_iter(path).map_err(|why| bad(&why))?;
                for certificate in certificates {
                    let certificate = certificate.map_err(|why| bad(&why))?;
                    roots.add(certificate).map_err(|why| bad(&why))?;
                }
                if roots.is_empty() {
                    return Err(bad(&"it holds no certificate; it begins with BEGIN CERTIFICATE"));
                }
            }
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        let verifier = verifier.build().map_err(|error| error.to_string())?;
        Ok(Trust { verifier, is_blind: self.insecure })
    }
}

impl Trust {
    /// A handshake with `host`; the time is that of phase `tls` of `metric`. The end of the certificates is
    /// told also when they are not trusted.
    pub(super) async fn shake(
        &self,
        (host, stream): (&str, TcpStream),
        (metric, report): (&'static str, &mut Report),
    ) -> Result<TlsStream<TcpStream>, Trouble> {
        let begin = Instant::now();
        let host = host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(Trouble::failed)?;
        let witness = Arc::new(Witness { trust: self.clone(), first_end: Mutex::default() });
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(Trouble::failed)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&witness) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        let shaken = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        report.took(metric, "tls", begin.elapsed());
        if let Some(end) = *witness.first_end.lock().unwrap_or_else(PoisonError::into_inner) {
            report.set("probe_ssl_earliest_cert_expiry", seconds(end));
        }
        shaken.map_err(|error| Trouble::Failed(format!("no TLS: {error}")))
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 stay below 2^53 for ever")]
fn seconds(at: i64) -> f64 {
    at as f64
}

/// Asks those who vouch, and remembers what it saw.
#[derive(Debug)]
struct Witness {
    trust: Trust,
    first_end: Mutex<Option<i64>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let all = [end_entity].into_iter().chain(intermediates);
        let first_end = all.filter_map(|certificate| not_after(certificate)).min();
        *self.first_end.lock().unwrap_or_else(PoisonError::into_inner) = first_end;
        if self.trust.is_blind {
            return Ok(ServerCertVerified::assertion());
        }
        let verifier = &self.trust.verifier;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.verifier.supported_verify_schemes()
    }
}
