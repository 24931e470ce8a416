//! What the real autopush answers (classify/README.md §11).

use super::*;

fn lacking(header: &'static str, name: &'static str) -> Refusal {
    Refusal::Decrypt(DecryptError::Parameter { header, name })
}

#[test]
fn mozilla_refuses_as_it_was_measured() {
    let claims = "Invalid VAPID token: A value in the vapid claims is either missing or incorrectly \
                  specified (e.g. \"exp\":\"12345\" or \"sub\":null). Please correct and retry.";
    let audience = VapidError::Audience {
        claimed: String::new(),
        origin: String::new(),
    };
    for (refusal, status, errno, message) in [
        (Refusal::Vapid(audience), 401, 109, "Invalid VAPID audience"),
        (VapidError::Expired.into(), 401, 109, "ExpiredSignature"),
        (
            VapidError::TooLong.into(),
            401,
            109,
            "The VAPID token expiration is too long",
        ),
        (VapidError::Claim("exp", "").into(), 401, 109, claims),
        (
            VapidError::KeyMismatch.into(),
            401,
            109,
            "VAPID public key mismatch",
        ),
        (VapidError::Signature.into(), 401, 109, "InvalidSignature"),
        (
            VapidError::SignatureLength(70).into(),
            401,
            109,
            "InvalidSignature",
        ),
        (VapidError::Algorithm.into(), 401, 109, "InvalidAlgorithm"),
        (VapidError::Key.into(), 401, 109, "InvalidEcdsaKey"),
        (
            VapidError::Missing("k").into(),
            401,
            109,
            "Missing VAPID public key",
        ),
        (VapidError::Token.into(), 401, 109, "InvalidToken"),
        (
            VapidError::Absent.into(),
            401,
            109,
            "Missing VAPID public key",
        ),
        (VapidError::Scheme.into(), 401, 109, "Unknown auth scheme"),
        (Refusal::TtlMissing, 400, 111, "Missing TTL value"),
        (Refusal::Ttl(String::new()), 400, 111, "Missing TTL value"),
        (
            Refusal::Ttl("-1".to_owned()),
            400,
            114,
            "ttl: TTL must be greater than 0",
        ),
        (
            Refusal::Topic("x".repeat(33)),
            400,
            113,
            "topic: Topic must be no greater than 32 characters",
        ),
        (
            Refusal::Topic(String::new()),
            400,
            113,
            "topic: Topic must be URL and Filename safe Base64 alphabet",
        ),
        (
            Refusal::TooLarge(5631),
            413,
            104,
            "payload reached size limit",
        ),
        (
            Refusal::CodingMissing,
            400,
            110,
            "Missing Content-Encoding header",
        ),
        (
            Refusal::Coding("x".to_owned()),
            400,
            110,
            "Unknown Content-Encoding header",
        ),
        (
            Refusal::LegacyHeader("encryption"),
            400,
            110,
            "Do not include 'salt' header in aes128gcm Encryption header",
        ),
        (
            Refusal::LegacyHeader("crypto-key"),
            400,
            110,
            "Do not include 'dh' header in aes128gcm Crypto-Key header",
        ),
        (
            lacking("Encryption", "salt"),
            400,
            110,
            "Missing salt value in Encryption header",
        ),
        (
            lacking("Crypto-Key", "dh"),
            400,
            110,
            "Missing dh value in Crypto-Key header",
        ),
    ] {
        let (answer, body) = refused(Service::Mozilla, &refusal).unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (answer, &body["code"]),
            (status, &json!(status)),
            "{refusal:?}"
        );
        assert_eq!(
            (&body["errno"], &body["message"]),
            (&json!(errno), &json!(message))
        );
        let reason = StatusCode::from_u16(status).unwrap().canonical_reason();
        assert_eq!(body["error"].as_str(), reason);
    }
    for status in [(Refusal::NotFound, 404), (Refusal::Method, 405)] {
        let empty = Some((status.1, String::new()));
        assert_eq!(refused(Service::Mozilla, &status.0), empty);
    }
    for taken in [
        Refusal::TooLarge(5630),
        Refusal::Urgency("soon".to_owned()),
        VapidError::Claim("sub", "").into(),
        DecryptError::Authentication(0).into(),
    ] {
        assert_eq!(refused(Service::Mozilla, &taken), None, "{taken:?}");
    }
}
