//! Whom the agent takes for its collector: the public authorities, one of its own, or one pinned by
//! hash; and what it shows of itself.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt as _;
use rrd::hex::bytes_of_hex;
use serde::{Deserialize, Deserializer, de::Error as _};
use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::AgentError;
use crate::listen::{certificates, read};

/// How the agent knows its collector. Without more: by the public authorities.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The authorities of the collector's certificate (PEM), instead of the public ones.
    pub authority: Option<PathBuf>,
    /// The hash of that authority, or of the collector's own certificate, instead of a file.
    pub pin: Option<Pin>,
    /// Our own certificate and its key (PEM), where the collector asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// The SHA-256 of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin([u8; 32]);

/// A text is not a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pin is sha256: and 64 hexadecimal digits; openssl x509 -noout -fingerprint -sha256 shows them"
)]
pub struct PinError;

impl<'de> Deserialize<'de> for Pin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text).replace(':', "");
        bytes_of_hex(&digits).map(Self).ok_or(PinError)
    }
}

impl Trust {
    /// What TLS with the collector is made of.
    pub(super) fn config(&self) -> Result<ClientConfig, AgentError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring has ciphers for TLS 1.2 and 1.3");
        let known = match (&self.pin, &self.authority) {
            (Some(pin), _) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Pinned { pin: *pin, provider })),
            (None, Some(file)) => {
                let mut roots = RootCertStore::empty();
                for root in certificates(file, &read(file, false)?)? {
                    roots.add(root).map_err(|error| AgentError::Tls(error.to_string()))?;
                }
                builder.with_root_certificates(roots)
            }
            (None, None) => builder.with_webpki_roots(),
        };
        let Some((certificate, key)) = &self.identity else {
            return Ok(known.with_no_client_auth());
        };
        let chain = certificates(certificate, &read(certificate, false)?)?;
        let key = PrivateKeyDer::from_pem_slice(&read(key, true)?)
            .map_err(|error| AgentError::Tls(format!("{}: {error}", key.display())))?;
        known.with_client_auth_cert(chain, key).map_err(|error| AgentError::Tls(error.to_string()))
    }
}

/// Believes a chain that leads to the certificate with one hash.
#[derive(Debug)]
struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        <[u8; 32]>::from(Sha256::digest(certificate.as_ref())) == self.pin.0
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The very certificate that was pinned: its name and its end are the operator's matter.
        if self.is_pinned(own) {
            return Ok(ServerCertVerified::assertion());
        }
        let root = others.iter().find(|one| self.is_pinned(one));
        let root = root.ok_or(CertificateError::UnknownIssuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(own, others, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_as_openssl_prints_it_and_as_others_do() {
        let plain = "0f".repeat(32);
        let colons = vec!["0F"; 32].join(":");
        for text in [plain.clone(), format!("sha256:{plain}"), colons] {
            assert_eq!(text.parse::<Pin>(), Ok(Pin([0x0f; 32])), "{text}");
        }
        for text in ["", "sha256:", "0f", &"0g".repeat(32), &"é".repeat(32)] {
            assert_eq!(text.parse::<Pin>(), Err(PinError), "{text}");
        }
    }
}
