//! The library's check of certificates, which also distinguishes a self-signed one from one of an unknown CA.
//!
//! Every decision is the library's: an error stays an error, and only its kind becomes more exact.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    VerifierBuilderError, WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor,
};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

/// A certificate that is not accepted and has issued itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SelfSigned {
    /// It is a server's.
    #[error("the certificate is self-signed")]
    Server,
    /// It is a CA's.
    #[error("the certificate is self-signed and a CA's")]
    Authority,
}

/// Checks certificates by the library's rules.
#[derive(Debug)]
pub(super) struct Verifier {
    library: Arc<WebPkiServerVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// Creates a verifier that trusts `roots`.
    ///
    /// # Errors
    /// If there are none.
    pub(super) fn new(
        roots: RootCertStore,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let algorithms = provider.signature_verification_algorithms;
        let roots = Arc::new(roots);
        let library = WebPkiServerVerifier::builder_with_provider(roots, provider).build()?;
        Ok(Self {
            library,
            algorithms,
        })
    }

    /// Returns the error of a certificate, as [`SelfSigned`] where that is what is wrong.
    fn exact(&self, error: Error, certificate: &CertificateDer<'_>, now: UnixTime) -> Error {
        let Error::InvalidCertificate(fault) = &error else {
            return error;
        };
        let kind = if matches!(
            fault,
            CertificateError::UnknownIssuer | CertificateError::BadSignature
        ) {
            let is_self_signed = self.vouches_for_itself(certificate, now);
            is_self_signed.then_some(SelfSigned::Server)
        } else {
            let is_self_signed = is_authority(fault) && is_self_issued(certificate);
            is_self_signed.then_some(SelfSigned::Authority)
        };
        kind.map_or(error, |kind| {
            CertificateError::Other(OtherError(Arc::new(kind))).into()
        })
    }

    /// Returns whether a certificate would be accepted if it were trusted itself. The names alone do
    /// not tell: a certificate may have the name of its CA.
    fn vouches_for_itself(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
        let mut itself = RootCertStore::empty();
        let parsed = ParsedCertificate::try_from(certificate);
        let (Ok(parsed), Ok(())) = (parsed, itself.add(certificate.clone().into_owned())) else {
            return false;
        };
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &itself, &[], now, algorithms).is_ok()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.library
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| self.exact(error, end_entity, now))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.library.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.library.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.library.supported_verify_schemes()
    }
}

/// Returns whether what is wrong with a server's certificate is that it is a CA's.
fn is_authority(fault: &CertificateError) -> bool {
    let CertificateError::Other(OtherError(cause)) = fault else {
        return false;
    };
    cause.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
}

fn is_self_issued(certificate: &CertificateDer<'_>) -> bool {
    webpki::EndEntityCert::try_from(certificate)
        .is_ok_and(|certificate| certificate.issuer() == certificate.subject())
}
