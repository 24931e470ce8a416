//! The sandbox's own certification authority.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// An authority that vouches for the sandbox's names and nothing else.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// Creates an authority, or reads the one that an earlier run left in `state`.
    pub(crate) fn open(state: Option<&Path>) -> Result<Self, CaError> {
        let Some(directory) = state else {
            return Self::make();
        };
        let key_path = directory.join("ca.key");
        let pem_path = directory.join("ca.pem");
        if !key_path.exists() || !pem_path.exists() {
            let authority = Self::make()?;
            let key = authority.issuer.key().serialize_pem();
            write(&key_path, &key, 0o600)?;
            write(&pem_path, &authority.pem, 0o644)?;
            return Ok(authority);
        }
        let key = KeyPair::from_pem(&read(&key_path)?)?;
        Ok(Self {
            issuer: Issuer::new(authority_params(), key),
            pem: read(&pem_path)?,
        })
    }

    fn make() -> Result<Self, CaError> {
        let key = KeyPair::generate()?;
        let params = authority_params();
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    /// Returns the authority's certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns what a TLS server needs to be each of `names` (host names and addresses).
    pub(crate) fn server(&self, names: Vec<String>, http2: bool) -> Result<ServerConfig, CaError> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = name("pushrider sandbox");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = CertificateDer::from(params.signed_by(&key, &self.issuer)?);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        if http2 {
            config.alpn_protocols.push(b"h2".to_vec());
        }
        config.alpn_protocols.push(b"http/1.1".to_vec());
        Ok(config)
    }
}

/// The same every time: a restored authority is its key and these.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("pushrider sandbox CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn read(path: &Path) -> Result<String, CaError> {
    std::fs::read_to_string(path).map_err(|error| CaError::File(path.to_owned(), error))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), CaError> {
    let open = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path);
    open.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| CaError::File(path.to_owned(), error))
}

/// Why there is no authority or certificate.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The state directory cannot be used.
    #[error("{path}: {1}", path = .0.display())]
    File(PathBuf, #[source] io::Error),
    /// A certificate cannot be made, or a key not be read.
    #[error("the sandbox's certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS does not take the certificate.
    #[error("TLS does not take the sandbox's certificate: {0}")]
    Tls(#[from] rustls::Error),
}
