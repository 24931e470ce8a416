//! An application server key, in whatever form its maker wrote it down.
//!
//! Why so many forms: the key outlives the program that made it, because subscriptions are bound to
//! it. Every tool of the field writes another one, and a team that moves here must not have to
//! convert, let alone lose, the key of all its subscribers.

use std::fmt;

use aws_lc_rs::agreement::{self, ECDH_P256};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P256K1_SHA256_ASN1_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, Signature,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::{PemObject, SectionKind};
use zeroize::Zeroizing;

use crate::message::Name;
use crate::secret::Secret;
use crate::subscription::{decode_base64, encode_base64url};

/// The length of an uncompressed P-256 point.
const POINT_LENGTH: usize = 65;

/// The first byte of every key in DER.
const SEQUENCE: u8 = 0x30;

/// An application server key (RFC 8292 §2): a private key on P-256 and its name.
pub struct VapidKey {
    name: Name,
    pair: EcdsaKeyPair,
    public: [u8; POINT_LENGTH],
    encoded: String,
}

impl VapidKey {
    /// Reads a private key: PEM or DER, SEC1 or PKCS#8, or the base64url of its 32 bytes.
    ///
    /// Takes what `openssl ecparam -genkey`, `openssl genpkey` and `web-push generate-vapid-keys`
    /// write, also with line breaks spelled `\n` as environment variables have them.
    ///
    /// # Errors
    /// If it is no private key on P-256; says what it is instead, as far as can be told, and
    /// never repeats any of it.
    pub fn parse(name: Name, text_or_der: &[u8]) -> Result<Self, KeyError> {
        const PEM: &[u8] = b"-----BEGIN ";
        let bytes = text_or_der.trim_ascii();
        if bytes.is_empty() {
            return Err(KeyError::Empty);
        }
        let pair = if bytes.windows(PEM.len()).any(|window| window == PEM) {
            read_pem(&String::from_utf8_lossy(bytes))?
        } else if let Some(decoded) = std::str::from_utf8(bytes).ok().and_then(decode_base64) {
            read_decoded(&Zeroizing::new(decoded))?
        } else if text_or_der[0] == SEQUENCE {
            read_der(text_or_der)?
        } else {
            return Err(KeyError::Unrecognised);
        };
        Self::of(name, pair)
    }

    /// Makes a new key.
    ///
    /// # Errors
    /// If the cryptography library fails.
    pub fn generate(name: Name) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|Unspecified| KeyError::Library)?;
        Self::of(name, pair)
    }

    /// Writes the private key as PKCS#8 in PEM, which every tool reads.
    ///
    /// # Errors
    /// If the cryptography library fails.
    pub fn to_pkcs8_pem(&self) -> Result<Secret<String>, KeyError> {
        let der = self
            .pair
            .to_pkcs8v1()
            .map_err(|Unspecified| KeyError::Library)?;
        let encoded = Zeroizing::new(STANDARD.encode(der.as_ref()));
        let mut pem = String::with_capacity(encoded.len() + 64);
        pem.push_str("-----BEGIN PRIVATE KEY-----\n");
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        Ok(Secret::new(pem))
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Returns the public key as an uncompressed point of 65 bytes.
    #[must_use]
    pub fn public_key(&self) -> &[u8; POINT_LENGTH] {
        &self.public
    }

    /// Returns the public key as pages pass it to `subscribe` and as `k=` carries it.
    #[must_use]
    pub fn public_key_base64url(&self) -> &str {
        &self.encoded
    }

    /// Signs with ES256: r and s of 32 bytes each (RFC 7518 §3.4).
    pub(super) fn sign(&self, message: &[u8]) -> Result<Signature, Unspecified> {
        self.pair.sign(&SystemRandom::new(), message)
    }

    fn of(name: Name, pair: EcdsaKeyPair) -> Result<Self, KeyError> {
        let Ok(public) = pair.public_key().as_ref().try_into() else {
            return Err(KeyError::Library);
        };
        let encoded = encode_base64url(pair.public_key().as_ref());
        Ok(Self {
            name,
            pair,
            public,
            encoded,
        })
    }
}

impl fmt::Debug for VapidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VapidKey({})", self.name)
    }
}

/// Why something is not an application server key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing, or only white space.
    #[error("the VAPID key is empty; `pushrider keys generate` makes one")]
    Empty,
    /// None of the forms that keys are written in.
    #[error(
        "the VAPID key is neither PEM, nor DER, nor base64url; of what `web-push \
         generate-vapid-keys` prints, keep only the line below \"Private Key:\""
    )]
    Unrecognised,
    /// PEM that cannot be read to its end.
    #[error(
        "the PEM text of the VAPID key is damaged: BEGIN and END must be lines of their own and \
         only base64 between them"
    )]
    Pem,
    /// PEM of something else.
    #[error(
        "the PEM text holds no private key; expected BEGIN PRIVATE KEY or BEGIN EC PRIVATE KEY"
    )]
    NoPrivateKey,
    /// Protected by a passphrase.
    #[error(
        "the VAPID key is encrypted with a passphrase; decrypt it with `openssl pkey -in KEY -out \
         PLAIN` and let file permissions protect it"
    )]
    Encrypted,
    /// The other half.
    #[error("this is a public key; signing needs the private key it belongs to")]
    PublicKey,
    /// A certificate.
    #[error("this is a certificate; VAPID needs a bare private key on P-256")]
    Certificate,
    /// A private key for another algorithm; says which.
    #[error(
        "this is a private key for {0}; VAPID signs with P-256 only (RFC 8292 §2): \
         `pushrider keys generate` makes such a key"
    )]
    Algorithm(&'static str),
    /// base64url of something else; carries the decoded length.
    #[error(
        "the VAPID key decodes to {0} bytes; a raw private key has 32 (43 characters of base64url)"
    )]
    Length(usize),
    /// 32 bytes that are no private key.
    #[error("the 32 bytes of the VAPID key are not a number from 1 to the order of P-256")]
    NotScalar,
    /// DER that no reading makes sense of.
    #[error(
        "the VAPID key is damaged, or its public part belongs to another private key; restore it \
         from where it was made"
    )]
    Rejected,
    /// The cryptography library could not do its part.
    #[error("the cryptography library failed to make or write a VAPID key")]
    Library,
}

fn read_pem(text: &str) -> Result<EcdsaKeyPair, KeyError> {
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("4,ENCRYPTED") {
        return Err(KeyError::Encrypted);
    }
    let text = unfold(text);
    let mut instead = KeyError::NoPrivateKey;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        let (kind, der) = section.map_err(|_error| KeyError::Pem)?;
        let der = Zeroizing::new(der);
        if matches!(
            kind,
            SectionKind::PrivateKey | SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey
        ) {
            return read_der(&der);
        }
        if kind == SectionKind::PublicKey {
            instead = KeyError::PublicKey;
        } else if kind == SectionKind::Certificate {
            instead = KeyError::Certificate;
        }
    }
    Err(instead)
}

/// Restores the lines of PEM that was kept in a variable or indented.
fn unfold(text: &str) -> Zeroizing<String> {
    let text = Zeroizing::new(text.replace("\\n", "\n"));
    let mut lines = Zeroizing::new(String::with_capacity(text.len() + 1));
    for line in text.lines() {
        lines.push_str(line.trim());
        lines.push('\n');
    }
    lines
}

/// Reads what base64 was found to hold.
fn read_decoded(bytes: &[u8]) -> Result<EcdsaKeyPair, KeyError> {
    /// SEC1 with the scalar and nothing optional.
    const SHORTEST_DER: usize = 39;
    match (bytes.len(), bytes.first()) {
        (32, _) => read_scalar(bytes),
        (POINT_LENGTH, Some(4)) => Err(KeyError::PublicKey),
        (SHORTEST_DER.., Some(&SEQUENCE)) => read_der(bytes),
        (length, _) => Err(KeyError::Length(length)),
    }
}

fn read_scalar(scalar: &[u8]) -> Result<EcdsaKeyPair, KeyError> {
    let key = agreement::PrivateKey::from_private_key(&ECDH_P256, scalar)
        .map_err(|_rejected| KeyError::NotScalar)?;
    let der: Pkcs8V1Der<'_> = key.as_der().map_err(|Unspecified| KeyError::Library)?;
    read_der(der.as_ref())
}

fn read_der(der: &[u8]) -> Result<EcdsaKeyPair, KeyError> {
    EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
        .map_err(|_rejected| identify(der))
}

/// Tells what DER holds that is no private key on P-256.
fn identify(der: &[u8]) -> KeyError {
    for (algorithm, name) in [
        (&ECDSA_P384_SHA384_FIXED_SIGNING, "the curve P-384"),
        (&ECDSA_P521_SHA512_FIXED_SIGNING, "the curve P-521"),
        (&ECDSA_P256K1_SHA256_ASN1_SIGNING, "the curve secp256k1"),
    ] {
        if EcdsaKeyPair::from_private_key_der(algorithm, der).is_ok() {
            return KeyError::Algorithm(name);
        }
    }
    if rsa::KeyPair::from_pkcs8(der).is_ok() || rsa::KeyPair::from_der(der).is_ok() {
        return KeyError::Algorithm("RSA");
    }
    if Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).is_ok() {
        return KeyError::Algorithm("Ed25519");
    }
    let public = agreement::UnparsedPublicKey::new(&ECDH_P256, der);
    match agreement::ParsedPublicKey::try_from(public) {
        Ok(_) => KeyError::PublicKey,
        Err(_) => KeyError::Rejected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The first line of every file says which command wrote the rest.
    const ECPARAM: &str = include_str!("../../tests/vectors/keys/ecparam.pem");
    /// What `openssl ec -pubout` says of it.
    const ECPARAM_PUBLIC: &str =
        "BGta4k-eMyInTTxsqPHDkTnpHlCzwK2NXmt1aqG1Y96ZGAVCTOfZkhhBlvqhUCaSAlfL8CzRDvoRDCfJAbm-vdI";
    const WEB_PUSH: &str = include_str!("../../tests/vectors/keys/web-push.txt");

    fn parse(bytes: impl AsRef<[u8]>) -> Result<VapidKey, KeyError> {
        VapidKey::parse(Name::parse("main").unwrap(), bytes.as_ref())
    }

    /// The first private key of a PEM text, as DER.
    fn der(pem: &str) -> Vec<u8> {
        <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes())
            .map(Result::unwrap)
            .find(|(kind, _)| *kind != SectionKind::PublicKey)
            .unwrap()
            .1
    }

    #[test]
    fn one_key_is_the_same_in_every_form_that_openssl_writes() {
        let pkcs8 = include_str!("../../tests/vectors/keys/ecparam-pkcs8.pem");
        let no_public = include_str!("../../tests/vectors/keys/ecparam-no-public.pem");
        for text in [
            ECPARAM,
            pkcs8,
            no_public,
            include_str!("../../tests/vectors/keys/ecparam-explicit.pem"),
            &ECPARAM.replace('\n', "\r\n"),
            &ECPARAM.replace('\n', "\\n"),
            &ECPARAM.replace('\n', "\n    "),
            &encode_base64url(&der(pkcs8)),
            &STANDARD.encode(der(ECPARAM)),
            &STANDARD.encode(der(no_public)),
        ] {
            let key = parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(key.public_key_base64url(), ECPARAM_PUBLIC, "{text}");
            assert_eq!(encode_base64url(key.public_key()), ECPARAM_PUBLIC);
        }
        for der in [der(ECPARAM), der(pkcs8)] {
            assert_eq!(parse(der).unwrap().public_key_base64url(), ECPARAM_PUBLIC);
        }
        assert!(parse(include_str!("../../tests/vectors/keys/genpkey.pem")).is_ok());
    }

    #[test]
    fn the_private_key_that_web_push_prints_is_taken() {
        let line_after = |heading| {
            let mut lines = WEB_PUSH.lines().skip_while(|line| *line != heading);
            lines.nth(1).unwrap()
        };
        let private = line_after("Private Key:");
        let public = line_after("Public Key:");
        for text in [private, &format!("{private}\n"), &format!("{private}=")] {
            assert_eq!(parse(text).unwrap().public_key_base64url(), public);
        }
        assert_eq!(parse(public).unwrap_err(), KeyError::PublicKey);
        assert_eq!(parse(WEB_PUSH).unwrap_err(), KeyError::Unrecognised);
    }

    #[test]
    fn a_key_that_does_not_fit_is_told_by_what_it_is() {
        let public = include_str!("../../tests/vectors/keys/ecparam-public.pem");
        for (text, error) in [
            ("", KeyError::Empty),
            (" \n", KeyError::Empty),
            ("{\"kty\": \"EC\"}", KeyError::Unrecognised),
            ("c2hvcnQ", KeyError::Length(5)),
            (&encode_base64url(&[0; 32]), KeyError::NotScalar),
            (&encode_base64url(&[0xff; 32]), KeyError::NotScalar),
            (
                include_str!("../../tests/vectors/keys/encrypted-sec1.pem"),
                KeyError::Encrypted,
            ),
            (
                include_str!("../../tests/vectors/keys/encrypted-pkcs8.pem"),
                KeyError::Encrypted,
            ),
            (public, KeyError::PublicKey),
            (ECPARAM_PUBLIC, KeyError::PublicKey),
            (
                include_str!("../../tests/vectors/keys/ecparam-certificate.pem"),
                KeyError::Certificate,
            ),
            (&ECPARAM[..ECPARAM.len() - 20], KeyError::Pem),
            (&ECPARAM.replace("MHc", "M?c"), KeyError::Pem),
            (&ECPARAM.replace("MHc", "AHc"), KeyError::Rejected),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----",
                KeyError::NoPrivateKey,
            ),
            (
                include_str!("../../tests/vectors/keys/p384.pem"),
                KeyError::Algorithm("the curve P-384"),
            ),
            (
                include_str!("../../tests/vectors/keys/p521.pem"),
                KeyError::Algorithm("the curve P-521"),
            ),
            (
                include_str!("../../tests/vectors/keys/secp256k1.pem"),
                KeyError::Algorithm("the curve secp256k1"),
            ),
            (
                include_str!("../../tests/vectors/keys/rsa-pkcs1.pem"),
                KeyError::Algorithm("RSA"),
            ),
            (
                include_str!("../../tests/vectors/keys/rsa-pkcs8.pem"),
                KeyError::Algorithm("RSA"),
            ),
            (
                include_str!("../../tests/vectors/keys/ed25519.pem"),
                KeyError::Algorithm("Ed25519"),
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), error, "{text}");
        }
        let public = public.lines().skip(2).take(2).collect::<String>();
        let public = STANDARD.decode(public).unwrap();
        assert_eq!(parse(public).unwrap_err(), KeyError::PublicKey);
        assert_eq!(parse([0xff, 0xfe, 0]).unwrap_err(), KeyError::Unrecognised);
    }

    #[test]
    fn two_halves_of_different_keys_are_no_key() {
        for pem in [
            ECPARAM,
            include_str!("../../tests/vectors/keys/ecparam-pkcs8.pem"),
        ] {
            let mut der = der(pem);
            let other = VapidKey::generate(Name::parse("other").unwrap()).unwrap();
            let at = der
                .windows(POINT_LENGTH)
                .position(|window| encode_base64url(window) == ECPARAM_PUBLIC)
                .unwrap();
            der[at..at + POINT_LENGTH].copy_from_slice(other.public_key());
            assert_eq!(parse(der).unwrap_err(), KeyError::Rejected);
        }
    }

    #[test]
    fn a_generated_key_is_read_back_from_its_pem() {
        let key = VapidKey::generate(Name::parse("main").unwrap()).unwrap();
        let pem = key.to_pkcs8_pem().unwrap();
        assert!(pem.expose().lines().all(|line| line.len() <= 64));
        let again = parse(pem.expose()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(key.public_key_base64url().len(), 87);
    }

    #[test]
    fn debug_shows_the_name_alone() {
        assert_eq!(format!("{:?}", parse(ECPARAM).unwrap()), "VapidKey(main)");
    }
}
