//! The forms in which private keys are kept.
//!
//! | form | written by |
//! |---|---|
//! | PEM, SEC1 or PKCS#8; also on one line, with `\n` spelled out, indented, or in UTF-16 | OpenSSL, environment variables, Windows editors |
//! | DER of the same | OpenSSL, Java |
//! | base64url or base64 of 32 bytes; of 31, or of 33 that begin with zero | `web-push`, Firebase; libraries that write integers |
//! | hex of 32 bytes, also `0x…` and `00:fe:…` | Go, Python, blockchain tools |
//! | a JWK | `jose`, Web Crypto |
//! | a JSON object in which one member names a private key | `web-push generate-vapid-keys --json`, secret stores |
//! | lines `NAME=value` or `Name: value`, of which one names a private key | `.env` files, `web-push generate-vapid-keys` |
//! | base64 of any of these | Kubernetes secrets |
//!
//! Where a public key stands beside the private key, it must be its other half.

use aws_lc_rs::agreement::{self, ECDH_P256};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P256K1_SHA256_ASN1_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _,
};
use rustls::pki_types::pem::{PemObject, SectionKind};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::subscription::{decode_base64, encode_base64url};

use super::key_error::KeyError;

/// The length of a private key on P-256.
const SCALAR_LENGTH: usize = 32;

/// The length of an uncompressed point on P-256, and its first byte.
const POINT_LENGTH: usize = 65;
const UNCOMPRESSED: u8 = 4;

/// The first byte of every key in DER.
const SEQUENCE: u8 = 0x30;

/// The length of a public key on P-256 in DER (RFC 5480), and where its point begins.
const PUBLIC_DER_LENGTH: usize = 91;
const PUBLIC_DER_POINT: usize = PUBLIC_DER_LENGTH - POINT_LENGTH;

const PEM_BEGIN: &str = "-----BEGIN ";

/// How many forms may be wrapped in each other: base64 of a `.env` file with JSON that holds PEM.
const NESTING: u8 = 4;

/// Reads a private key in any of the forms above.
pub(super) fn read(bytes: &[u8]) -> Result<EcdsaKeyPair, KeyError> {
    read_nested(bytes, NESTING)
}

/// Returns whether `text` is this public key, as base64url, base64, hex, PEM or DER in base64.
pub(super) fn is_public_half(text: &str, point: &[u8]) -> bool {
    point_of(text).is_some_and(|found| found == point)
}

fn read_nested(bytes: &[u8], nesting: u8) -> Result<EcdsaKeyPair, KeyError> {
    if bytes.trim_ascii().is_empty() {
        return Err(KeyError::Empty);
    }
    let read = match (decode_text(bytes), nesting.checked_sub(1)) {
        (Some(text), Some(nesting)) => read_text(unquote(&text), nesting),
        (None, _) | (_, None) => Err(KeyError::Unrecognised),
    };
    match read {
        Err(KeyError::Unrecognised) if bytes[0] == SEQUENCE => read_der(bytes),
        read => read,
    }
}

/// Decodes UTF-8 or, if a byte order mark says so, UTF-16, as PowerShell writes files.
fn decode_text(bytes: &[u8]) -> Option<Zeroizing<String>> {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, []) = bytes.as_chunks::<2>() else {
            return None;
        };
        char::decode_utf16(pairs.iter().map(|pair| unit(*pair)))
            .collect::<Result<String, _>>()
            .ok()
    };
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] | rest => std::str::from_utf8(rest).ok().map(str::to_owned),
    };
    text.map(Zeroizing::new)
}

/// Removes white space and one pair of quotes, which Docker's `env_file` leaves in place.
fn unquote(text: &str) -> &str {
    let text = text.trim();
    ['"', '\'']
        .iter()
        .find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
        .map_or(text, str::trim)
}

fn read_text(text: &str, nesting: u8) -> Result<EcdsaKeyPair, KeyError> {
    if text.starts_with('{') {
        read_json(text, nesting)
    } else if text.contains(PEM_BEGIN) {
        read_pem(text)
    } else if let Some(decoded) = decode_hex(text) {
        read_decoded(&decoded, text, nesting)
    } else if let Some(decoded) = decode_base64(text) {
        read_decoded(&Zeroizing::new(decoded), text, nesting)
    } else {
        read_lines(text, nesting)
    }
}

fn read_json(text: &str, nesting: u8) -> Result<EcdsaKeyPair, KeyError> {
    let value: Value = serde_json::from_str(text).map_err(|_error| KeyError::Json)?;
    if value.get("kty").is_some() {
        return read_jwk(&value);
    }
    let (mut private, mut public) = (Vec::new(), Vec::new());
    collect_halves(&value, &mut private, &mut public);
    read_pair(&private, &public, nesting).unwrap_or(Err(KeyError::JsonMember))
}

/// Collects the text members that a private and a public key are kept in, at any depth.
fn collect_halves<'a>(value: &'a Value, private: &mut Vec<&'a str>, public: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member.as_str() {
                    Some(text) if names_half(name, "private") => private.push(text),
                    Some(text) if names_half(name, "public") => public.push(text),
                    _ => collect_halves(member, private, public),
                }
            }
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| collect_halves(item, private, public)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Returns whether a name such as `VAPID_PRIVATE_KEY` stands for a half of a key, rather than for
/// its id, as in the service accounts of Google.
fn names_half(name: &str, half: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains(half) && !name.ends_with("key_id") && !name.ends_with("keyid")
}

/// Reads the one private key, compared with the one public key beside it; `None` if there is none.
fn read_pair(
    private: &[&str],
    public: &[&str],
    nesting: u8,
) -> Option<Result<EcdsaKeyPair, KeyError>> {
    let [private] = private else {
        return (!private.is_empty()).then_some(Err(KeyError::Several));
    };
    let pair = read_nested(private.as_bytes(), nesting);
    let [public] = public else {
        return Some(pair);
    };
    Some(pair.and_then(|pair| match point_of(public) {
        Some(point) if point != pair.public_key().as_ref() => Err(KeyError::OtherHalf),
        Some(_) | None => Ok(pair),
    }))
}

/// Reads a JSON Web Key (RFC 7518 §6.2).
fn read_jwk(jwk: &Value) -> Result<EcdsaKeyPair, KeyError> {
    let member = |name: &str| jwk.get(name).and_then(Value::as_str);
    match (member("kty"), member("crv")) {
        (Some("EC"), Some("P-256")) => {}
        (_, Some("P-384")) => return Err(KeyError::Algorithm("the curve P-384")),
        (_, Some("P-521")) => return Err(KeyError::Algorithm("the curve P-521")),
        (_, Some("secp256k1")) => return Err(KeyError::Algorithm("the curve secp256k1")),
        (_, Some("Ed25519")) => return Err(KeyError::Algorithm("Ed25519")),
        (Some("RSA"), _) => return Err(KeyError::Algorithm("RSA")),
        _ => return Err(KeyError::JsonMember),
    }
    let scalar = member("d").ok_or(KeyError::PublicKey)?;
    let scalar = Zeroizing::new(decode_base64(scalar).ok_or(KeyError::Json)?);
    let pair = read_scalar(&scalar)?;
    let half = |name| member(name).and_then(decode_base64);
    match (half("x"), half("y")) {
        (Some(x), Some(y)) if pair.public_key().as_ref()[1..] != [&x[..], &y[..]].concat() => {
            Err(KeyError::OtherHalf)
        }
        _ => Ok(pair),
    }
}

/// Reads lines such as `VAPID_PRIVATE_KEY=…`, or `Private Key:` with the key on the next line.
fn read_lines(text: &str, nesting: u8) -> Result<EcdsaKeyPair, KeyError> {
    let (mut private, mut public) = (Vec::new(), Vec::new());
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    while let Some(line) = lines.next() {
        if line == "priv:" {
            return Err(KeyError::OpenSslText);
        }
        let Some((name, value)) = line.split_once(['=', ':']) else {
            continue;
        };
        let half = if names_half(name, "private") {
            &mut private
        } else if names_half(name, "public") {
            &mut public
        } else {
            continue;
        };
        let value = value.trim();
        half.extend(
            Some(value)
                .filter(|it| !it.is_empty())
                .or_else(|| lines.next()),
        );
    }
    read_pair(&private, &public, nesting).unwrap_or(Err(KeyError::Unrecognised))
}

fn read_pem(text: &str) -> Result<EcdsaKeyPair, KeyError> {
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("4,ENCRYPTED") {
        return Err(KeyError::Encrypted);
    }
    if text.contains("BEGIN OPENSSH PRIVATE KEY") {
        return Err(KeyError::OpenSsh);
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

/// Restores the lines of PEM that was indented, or kept in a variable: on one line, or with `\n`
/// spelled out.
fn unfold(text: &str) -> Zeroizing<String> {
    let text = Zeroizing::new(text.replace("\\r", "\n").replace("\\n", "\n"));
    let mut lines = Zeroizing::new(String::with_capacity(text.len() + 64));
    for part in text.split("-----") {
        if part.starts_with("BEGIN ") || part.starts_with("END ") {
            lines.extend(["-----", part, "-----\n"]);
        } else {
            lines.extend(part.split_whitespace().flat_map(|line| [line, "\n"]));
        }
    }
    lines
}

/// Decodes the hex of a private or public key, as digits alone, after `0x`, or in pairs between
/// colons.
fn decode_hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    let digits = text.chars().filter(|it| *it != ':' && !it.is_whitespace());
    let digits: Option<Vec<u8>> = digits
        .map(|digit| digit.to_digit(16).and_then(|it| u8::try_from(it).ok()))
        .collect();
    let digits = Zeroizing::new(digits?);
    let lengths = [SCALAR_LENGTH, SCALAR_LENGTH + 1, POINT_LENGTH];
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    let bytes = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    lengths
        .contains(&pairs.len())
        .then(|| Zeroizing::new(bytes))
}

/// Reads what the base64 or hex `text` was found to hold.
fn read_decoded(bytes: &[u8], text: &str, nesting: u8) -> Result<EcdsaKeyPair, KeyError> {
    /// SEC1 with the scalar and nothing optional.
    const SHORTEST_DER: usize = 39;
    match bytes {
        [0, scalar @ ..] if scalar.len() == SCALAR_LENGTH => read_scalar(scalar),
        [2 | 3, x @ ..] if x.len() == SCALAR_LENGTH => Err(KeyError::PublicKey),
        [UNCOMPRESSED, rest @ ..] if rest.len() + 1 == POINT_LENGTH => Err(KeyError::PublicKey),
        scalar if scalar.len() == SCALAR_LENGTH => read_scalar(scalar),
        short if short.len() + 1 == SCALAR_LENGTH && is_whole(short, text) => {
            read_scalar(&Zeroizing::new([&[0], short].concat()))
        }
        _ if bytes.is_ascii() => match read_nested(bytes, nesting) {
            Err(KeyError::Unrecognised) => Err(KeyError::Length(bytes.len())),
            read => read,
        },
        [SEQUENCE, ..] if bytes.len() >= SHORTEST_DER => read_der(bytes),
        _ => Err(KeyError::Length(bytes.len())),
    }
}

/// Returns whether `text` is the whole base64 of `bytes`: of a key that was cut off while it was
/// copied, the last character carries bits that belong to no byte.
fn is_whole(bytes: &[u8], text: &str) -> bool {
    let text = text.trim_end_matches('=');
    text.replace('+', "-").replace('/', "_") == encode_base64url(bytes)
}

fn read_scalar(scalar: &[u8]) -> Result<EcdsaKeyPair, KeyError> {
    if scalar.len() != SCALAR_LENGTH {
        return Err(KeyError::Length(scalar.len()));
    }
    let key = agreement::PrivateKey::from_private_key(&ECDH_P256, scalar)
        .map_err(|_rejected| KeyError::NotScalar)?;
    let der: Pkcs8V1Der<'_> = key.as_der().map_err(|Unspecified| KeyError::Library)?;
    read_der(der.as_ref())
}

fn read_der(der: &[u8]) -> Result<EcdsaKeyPair, KeyError> {
    EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
        .map_err(|_rejected| identify(der))
}

/// Returns what DER holds that is no private key on P-256.
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

/// Returns the uncompressed point of a public key in text.
fn point_of(text: &str) -> Option<Vec<u8>> {
    let text = unquote(text);
    let mut bytes = if text.contains(PEM_BEGIN) {
        <(SectionKind, Vec<u8>)>::pem_slice_iter(unfold(text).as_bytes())
            .filter_map(Result::ok)
            .find(|(kind, _)| *kind == SectionKind::PublicKey)?
            .1
    } else {
        decode_hex(text)
            .map(|bytes| bytes.to_vec())
            .or_else(|| decode_base64(text))?
    };
    if bytes.len() == PUBLIC_DER_LENGTH && bytes[0] == SEQUENCE {
        bytes.drain(..PUBLIC_DER_POINT);
    }
    (bytes.len() == POINT_LENGTH && bytes[0] == UNCOMPRESSED).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;
    use crate::message::Name;
    use crate::vapid::VapidKey;

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
        assert_eq!(parse(WEB_PUSH).unwrap().public_key_base64url(), public);
    }

    #[test]
    fn a_key_that_does_not_fit_is_told_by_what_it_is() {
        let public = include_str!("../../tests/vectors/keys/ecparam-public.pem");
        for (text, error) in [
            ("", KeyError::Empty),
            (" \n", KeyError::Empty),
            ("{\"kty\": \"EC\"}", KeyError::JsonMember),
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
                KeyError::OpenSsh,
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

    /// One made-up key: its private half begins with a zero byte.
    const HEX: &str = "00feb6b0fa78485416d110f6524d738c90c4db261f094b18950e10eb986f9ff4";
    const PRIVATE: &str = "AP62sPp4SFQW0RD2Uk1zjJDE2yYfCUsYlQ4Q65hvn_Q";
    const PUBLIC: &str =
        "BMg0DAifH23qEvLYvA1Qx9LUsLU-MGOoIN-dAZ2ViZHcTfqgIw54hdVHpu65QXFPuyN8YKi9UKZn1E6-UzVFJ-8";
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAP62sPp4SFQW0RD2\n\
        Uk1zjJDE2yYfCUsYlQ4Q65hvn/ShRANCAATINAwInx9t6hLy2LwNUMfS1LC1PjBj\n\
        qCDfnQGdlYmR3E36oCMOeIXVR6buuUFxT7sjfGCovVCmZ9ROvlM1RSfv\n\
        -----END PRIVATE KEY-----\n";

    fn colons(hex: &str) -> String {
        let pairs: Vec<&str> = (0..hex.len())
            .step_by(2)
            .map(|at| &hex[at..at + 2])
            .collect();
        pairs.join(":")
    }

    fn jwk() -> Value {
        let point = decode_base64(PUBLIC).unwrap();
        let half = |range| encode_base64url(&point[range]);
        json!({ "kty": "EC", "crv": "P-256", "d": PRIVATE, "x": half(1..33), "y": half(33..65) })
    }

    #[test]
    fn a_key_is_taken_as_libraries_secret_stores_and_editors_keep_it() {
        let utf16 = |mark: &[u8], unit: fn(u16) -> [u8; 2]| {
            [
                mark,
                &PEM.encode_utf16().flat_map(unit).collect::<Vec<u8>>(),
            ]
            .concat()
        };
        let pair = json!({ "publicKey": PUBLIC, "privateKey": PRIVATE });
        let account = json!({ "type": "x", "private_key_id": "abc", "private_key": PEM });
        let rows: [(&str, Vec<u8>); 22] = [
            (
                "31 bytes",
                encode_base64url(&decode_base64(PRIVATE).unwrap()[1..]).into(),
            ),
            (
                "33 bytes",
                "AAD-trD6eEhUFtEQ9lJNc4yQxNsmHwlLGJUOEOuYb5_0".into(),
            ),
            ("hex", HEX.into()),
            ("0x", format!("0x{HEX}").into()),
            ("hex in pairs", colons(HEX).into()),
            ("hex with a sign byte", format!("00{HEX}").into()),
            ("web-push --json", pair.to_string().into()),
            (
                "nested JSON",
                json!({ "vapidKeys": pair }).to_string().into(),
            ),
            ("an id beside it", account.to_string().into()),
            ("JWK", jwk().to_string().into()),
            ("UTF-8 mark", format!("\u{feff}{PEM}").into()),
            ("UTF-16, little end", utf16(&[0xff, 0xfe], u16::to_le_bytes)),
            ("UTF-16, big end", utf16(&[0xfe, 0xff], u16::to_be_bytes)),
            ("one line", PEM.replace('\n', " ").into()),
            ("one line, nothing between", PEM.replace('\n', "").into()),
            ("\\r\\n spelled out", PEM.replace('\n', "\\r\\n").into()),
            ("quotes", format!("\"{PRIVATE}\"").into()),
            (
                "quoted PEM",
                format!("'{}'", PEM.replace('\n', "\\n")).into(),
            ),
            (
                ".env",
                format!("A=b\nVAPID_PUBLIC_KEY={PUBLIC}\nVAPID_PRIVATE_KEY=\"{PRIVATE}\"\n").into(),
            ),
            (
                "export",
                format!("export VAPID_PRIVATE_KEY={PRIVATE}").into(),
            ),
            (
                "YAML",
                format!("public_key: {PUBLIC}\nprivate_key: {PRIVATE}\n").into(),
            ),
            ("base64 of PEM", STANDARD.encode(PEM).into()),
        ];
        for (form, bytes) in rows {
            let key = parse(bytes).unwrap_or_else(|error| panic!("{form}: {error}"));
            assert_eq!(key.public_key_base64url(), PUBLIC, "{form}");
        }
        for wrapped in [PRIVATE, HEX, &pair.to_string()] {
            let twice = STANDARD.encode(wrapped);
            assert_eq!(
                parse(&twice).unwrap().public_key_base64url(),
                PUBLIC,
                "{twice}"
            );
        }
    }

    #[test]
    fn what_is_kept_in_the_place_of_a_key_gets_the_sentence_of_its_form() {
        let other = VapidKey::generate(Name::parse("other").unwrap()).unwrap();
        let other = other.public_key_base64url();
        let mut foreign = jwk();
        foreign["x"] = json!(encode_base64url(&[7; 32]));
        let mut public = jwk();
        public.as_object_mut().unwrap().remove("d");
        let mut p384 = jwk();
        p384["crv"] = json!("P-384");
        let env = |public: &str| format!("VAPID_PRIVATE_KEY={PRIVATE}\nVAPID_PUBLIC_KEY={public}");
        for (text, error) in [
            // A key that lost its last character decodes to 31 bytes and some bits.
            (PRIVATE[..42].to_owned(), KeyError::Length(31)),
            (PRIVATE[..40].to_owned(), KeyError::Length(30)),
            (
                json!({ "privateKey": PRIVATE, "publicKey": other }).to_string(),
                KeyError::OtherHalf,
            ),
            (env(other), KeyError::OtherHalf),
            (foreign.to_string(), KeyError::OtherHalf),
            (public.to_string(), KeyError::PublicKey),
            (p384.to_string(), KeyError::Algorithm("the curve P-384")),
            (
                json!({ "publicKey": PUBLIC }).to_string(),
                KeyError::JsonMember,
            ),
            (format!("{{\"privateKey\": \"{PRIVATE}\""), KeyError::Json),
            (
                format!("A_PRIVATE_KEY={PRIVATE}\nB_PRIVATE_KEY={PRIVATE}"),
                KeyError::Several,
            ),
            (
                format!("Private-Key: (256 bit)\npriv:\n    {}\npub:\n", colons(HEX)),
                KeyError::OpenSslText,
            ),
            ("VAPID_PRIVATE_KEY=".to_owned(), KeyError::Unrecognised),
            (
                "correct horse battery staple".to_owned(),
                KeyError::Unrecognised,
            ),
            (
                encode_base64url(&[&[2], &[7; 32][..]].concat()),
                KeyError::PublicKey,
            ),
            (colons(&"04".repeat(65)), KeyError::PublicKey),
        ] {
            assert_eq!(parse(&text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn base64_in_base64_ends_somewhere() {
        let mut text = PRIVATE.to_owned();
        for _ in 0..20 {
            text = STANDARD.encode(text);
        }
        assert!(matches!(parse(&text).unwrap_err(), KeyError::Length(_)));
    }

    #[test]
    fn the_public_half_is_known_in_every_form() {
        let key = parse(PRIVATE).unwrap();
        let point = key.public_key();
        let der = [
            &decode_base64("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE").unwrap()[..],
            &point[1..],
        ]
        .concat();
        let hex: String = point.iter().map(|byte| format!("{byte:02x}")).collect();
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----",
            STANDARD.encode(&der)
        );
        for text in [
            PUBLIC,
            &STANDARD.encode(point),
            &hex,
            &STANDARD.encode(&der),
            &pem,
        ] {
            assert!(key.has_public_half(text), "{text}");
        }
        for text in ["", PRIVATE, ECPARAM_PUBLIC, PEM] {
            assert!(!key.has_public_half(text), "{text}");
        }
    }
}
