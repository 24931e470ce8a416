//! TLS to the broker: the certificates to trust, and the client's own.
//!
//! The client's certificate and its key are read for each connection, because they are renewed.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, Error, InconsistentKeys, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::broker::connect_error::Cause;
use crate::broker::{ClientCertificate, NeedsOperator, Settings};
use crate::secret::Secret;

/// What a TLS handshake with the broker needs.
#[derive(Clone)]
pub(super) struct Tls {
    ca: Option<Vec<CertificateDer<'static>>>,
    client: Option<ClientCertificate>,
}

/// A certificate with those that lead to its CA, and its key.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Tls {
    /// Reads the CA's certificates.
    pub(super) fn new(settings: &Settings) -> Result<Self, NeedsOperator> {
        let unreadable = |_| NeedsOperator::UnreadableCa;
        let ca = settings.ca.as_deref().map(certificates).transpose();
        Ok(Self {
            ca: ca.map_err(unreadable)?,
            client: settings.client.clone(),
        })
    }

    /// Returns whether there is a client certificate to offer.
    pub(super) fn has_client_certificate(&self) -> bool {
        self.client.is_some()
    }

    /// Makes the handshake.
    pub(super) async fn encrypt(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> Result<TlsStream<TcpStream>, Cause> {
        let connector = TlsConnector::from(Arc::new(self.config()?));
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| Cause::Tls(Error::General(error.to_string())))?;
        let encrypted = connector.connect(name, stream).await;
        encrypted.map_err(|error| Cause::of_tls(&error))
    }

    fn config(&self) -> Result<ClientConfig, Cause> {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(Cause::Tls)?
            .with_root_certificates(self.roots()?);
        let Some(files) = &self.client else {
            return Ok(config.with_no_client_auth());
        };
        let (chain, key) = read_identity(files).map_err(Cause::ClientCertificate)?;
        config.with_client_auth_cert(chain, key).map_err(Cause::Tls)
    }

    /// Returns the system's certificates and the operator's.
    fn roots(&self) -> Result<RootCertStore, Cause> {
        let system = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(system.certs);
        roots.add_parsable_certificates(self.ca.iter().flatten().cloned());
        if roots.is_empty() {
            let why = system.errors.first().map(ToString::to_string);
            let why = why.unwrap_or_else(|| "none was found".to_owned());
            return Err(Cause::NoCertificates(why));
        }
        Ok(roots)
    }
}

/// Judges the key of a client certificate, both in PEM.
///
/// # Errors
/// With the rest of a sentence that begins with the name of the key.
pub fn check_client_key(certificate: &str, key: &[u8]) -> Result<(), String> {
    let chain = certificates(certificate).unwrap_or_default();
    identity(chain, key).map(drop)
}

fn read_identity(files: &ClientCertificate) -> Result<Identity, String> {
    let read = |path: &Path| {
        let failed = |error| format!("cannot read {}: {error}", path.display());
        fs::read(path).map(Secret::new).map_err(failed)
    };
    let (certificate, key) = (read(&files.certificate)?, read(&files.key)?);
    let chain = certificates(&String::from_utf8_lossy(certificate.expose()));
    let chain =
        chain.map_err(|()| format!("{} has no certificate in PEM", files.certificate.display()))?;
    identity(chain, key.expose()).map_err(|what| format!("{} {what}", files.key.display()))
}

/// Puts a certificate and its key together; the key must be that of the first certificate.
fn identity(chain: Vec<CertificateDer<'static>>, key: &[u8]) -> Result<Identity, String> {
    let key = PrivateKeyDer::from_pem_slice(key).map_err(
        |_| "has no private key in PEM without a passphrase: write one with `openssl pkey -in KEY`",
    )?;
    match CertifiedKey::from_der(chain.clone(), key.clone_key(), &default_provider()) {
        Ok(_) => Ok((chain, key)),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(
            "is not the key of the first certificate in broker.client_certificate_file: the two must be \
             made together"
                .to_owned(),
        ),
        Err(error) => Err(format!(
            "and the certificate in broker.client_certificate_file cannot be used: the key must be RSA, \
             ECDSA or Ed25519 ({error})"
        )),
    }
}

/// Reads certificates in PEM; there is at least one.
fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, ()> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(drop)?;
    if certificates.is_empty() {
        return Err(());
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::broker::tests::settings;

    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn a_ca_without_a_certificate_is_refused() {
        for pem in [
            "",
            "hello",
            "-----BEGIN CERTIFICATE-----\n??\n-----END CERTIFICATE-----\n",
        ] {
            let refused = Tls::new(&Settings {
                ca: Some(pem.to_owned()),
                ..settings()
            });
            assert_eq!(refused.err(), Some(NeedsOperator::UnreadableCa), "{pem}");
        }
    }

    #[test]
    fn a_certificate_and_a_key_must_belong_together() {
        let ((certificate, key), (_, other)) = (pair(), pair());
        assert_eq!(check_client_key(&certificate, key.as_bytes()), Ok(()));
        for (key, said) in [
            (&other, "is not the key of the first certificate"),
            (&certificate, "has no private key in PEM"),
            (
                &key.replace("BEGIN PRIVATE", "BEGIN ENCRYPTED PRIVATE")
                    .replace("END PRIVATE", "END ENCRYPTED PRIVATE"),
                "without a passphrase",
            ),
            (
                &"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_owned(),
                "must be RSA, ECDSA or Ed25519",
            ),
        ] {
            let problem = check_client_key(&certificate, key.as_bytes()).unwrap_err();
            assert!(problem.contains(said), "{problem}");
        }
        let both = format!("{key}{certificate}");
        assert_eq!(check_client_key(&both, both.as_bytes()), Ok(()));
    }
}
