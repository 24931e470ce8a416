//! Trust roots and TLS configuration: TLS 1.2 and 1.3 by aws-lc-rs.
//!
//! What can go wrong: a machine without certificates, or a CA file that is not one. Both are
//! found at start. The roots and the session store are shared by every connection.

use std::sync::Arc;

use rustls::client::{Resumption, VerifierBuilderError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::verifier::Verifier;

/// How many servers' sessions are kept for resumption.
const SESSIONS: usize = 256;

/// Why no certificate can be checked.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The CA text is not PEM.
    #[error("push.ca_file is not a PEM file of certificates: {0}")]
    NotPem(rustls::pki_types::pem::Error),
    /// The CA text has no certificate.
    #[error("push.ca_file holds no certificate (-----BEGIN CERTIFICATE-----)")]
    Empty,
    /// A certificate in the CA text cannot be used.
    #[error("push.ca_file holds something that is not an X.509 certificate: {0}")]
    NotCertificate(rustls::Error),
    /// Neither the system nor the operator names a certificate to trust.
    #[error(
        "this machine has no trusted certificates: install ca-certificates, or name a PEM file \
         in push.ca_file"
    )]
    NoRoots,
    /// The TLS library refuses its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Unusable(rustls::Error),
    /// The TLS library refuses the roots.
    #[error("certificates cannot be checked: {0}")]
    Unverifiable(VerifierBuilderError),
}

/// Creates the configuration that trusts the system's certificates and those in `ca` (PEM), and
/// offers HTTP/2 before HTTP/1.1.
///
/// # Errors
/// If `ca` is not PEM, holds no usable certificate, or there is nothing to trust at all.
pub(super) fn configure(ca: Option<&str>) -> Result<ClientConfig, TrustError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Verifier::new(roots(ca)?, Arc::clone(&provider));
    let verifier = verifier.map_err(TrustError::Unverifiable)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TrustError::Unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(config)
}

fn roots(ca: Option<&str>) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    // What cannot be read or parsed among the system's certificates is merely not trusted.
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if let Some(ca) = ca {
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            let certificate = certificate.map_err(TrustError::NotPem)?;
            roots.add(certificate).map_err(TrustError::NotCertificate)?;
        }
        if roots.len() == before {
            return Err(TrustError::Empty);
        }
    }
    if roots.is_empty() {
        return Err(TrustError::NoRoots);
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_that_is_none_is_refused_with_what_to_do() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        for (ca, says) in [
            ("", "holds no certificate"),
            (key.as_str(), "holds no certificate"),
            (
                "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n",
                "not a PEM file",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "not an X.509 certificate",
            ),
        ] {
            let error = configure(Some(ca)).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
