//! A sender for tests: builds right pushes from the RFCs, beside the product's own sending modules.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use bytes::Bytes;
use http::header::HeaderMap;
use serde_json::json;

use crate::clock::{Clock as _, SystemClock};
use crate::sandbox::decrypt::{expand, extract};
use crate::sandbox::subscriptions::KeysJson;
use crate::subscription::{decode_base64, encode_base64url};

/// An application server with its VAPID key.
pub(crate) struct Sender {
    key: EcdsaKeyPair,
    /// The time its tokens are made for.
    pub(crate) now: SystemTime,
}

impl Sender {
    pub(crate) fn new() -> Self {
        Self {
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            now: SystemClock.now().wall,
        }
    }

    /// The application server key.
    pub(crate) fn public(&self) -> String {
        encode_base64url(self.key.public_key().as_ref())
    }

    /// A push that has nothing wrong.
    pub(crate) fn request(
        &self,
        origin: &str,
        keys: &KeysJson,
        plaintext: &[u8],
    ) -> (HeaderMap, Bytes) {
        let p256dh = decode_base64(&keys.p256dh).unwrap().try_into().unwrap();
        let auth = decode_base64(&keys.auth).unwrap().try_into().unwrap();
        let body = encrypt(&p256dh, &auth, plaintext);
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ttl", "60"),
            ("content-encoding", "aes128gcm"),
            ("content-length", &body.len().to_string()),
            ("urgency", "normal"),
            ("authorization", &self.authorization(origin)),
        ] {
            headers.insert(
                name.parse::<http::HeaderName>().unwrap(),
                value.parse().unwrap(),
            );
        }
        (headers, body)
    }

    /// A credential for `origin`, valid for an hour.
    pub(crate) fn authorization(&self, origin: &str) -> String {
        let expiry = self.now + Duration::from_secs(3600);
        let exp = expiry.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({ "aud": origin, "exp": exp, "sub": "mailto:push@example.com" });
        let header = json!({ "typ": "JWT", "alg": "ES256" });
        let part = |json: serde_json::Value| encode_base64url(json.to_string().as_bytes());
        let token = format!("{}.{}", part(header), part(claims));
        let signature = self
            .key
            .sign(&SystemRandom::new(), token.as_bytes())
            .unwrap();
        let signature = encode_base64url(signature.as_ref());
        format!("vapid t={token}.{signature}, k={}", self.public())
    }
}

/// Encrypts as RFC 8291 §3.4, with a key and a salt of its own for every message.
fn encrypt(p256dh: &[u8; 65], auth: &[u8; 16], plaintext: &[u8]) -> Bytes {
    let private = PrivateKey::generate(&ECDH_P256).unwrap();
    let public = private.compute_public_key().unwrap();
    let peer = UnparsedPublicKey::new(&ECDH_P256, p256dh);
    let shared = agreement::agree(&private, peer, (), |shared| Ok(shared.to_vec())).unwrap();
    let info = [b"WebPush: info\0", &p256dh[..], public.as_ref()].concat();
    let keying_material = expand(&extract(auth, &shared), &info);
    let mut salt = [0; 16];
    aws_lc_rs::rand::fill(&mut salt).unwrap();
    let pseudorandom = extract(&salt, &keying_material);
    let key = expand(&pseudorandom, b"Content-Encoding: aes128gcm\0");
    let nonce = expand(&pseudorandom, b"Content-Encoding: nonce\0");
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key[..16]).unwrap());
    let nonce = Nonce::try_assume_unique_for_key(&nonce[..12]).unwrap();
    let mut record = [plaintext, &[2]].concat();
    key.seal_in_place_append_tag(nonce, Aad::empty(), &mut record)
        .unwrap();
    [&salt[..], &[0, 0, 16, 0, 65], public.as_ref(), &record]
        .concat()
        .into()
}
