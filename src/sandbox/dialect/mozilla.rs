//! Mozilla's autopush: JSON with an `errno`, as measured on its own program (classify/README.md §11).

use http::status::StatusCode;
use serde_json::json;

use super::behaviour::{Dialect, Taken, named};
use super::service_answer::ServiceAnswer;
use crate::sandbox::decrypt::DecryptError;
use crate::sandbox::refusal::Refusal;
use crate::sandbox::vapid::VapidError;

pub(super) static DIALECT: Dialect = Dialect {
    path: |token| format!("/wpush/v2/{token}"),
    accept,
    answers,
    refuse,
    demand: None,
};

/// What a longer TTL is cut to, in seconds.
const TTL_CAP: u64 = 2_592_000;

/// The largest body, in bytes; more than RFC 8030 §7.2 asks for.
const BODY_CAP: usize = 5630;

fn accept(taken: &Taken<'_>) -> ServiceAnswer {
    ServiceAnswer::new(201)
        .header("location", format!("{}/m/{:020}", taken.origin, taken.id))
        .header("ttl", taken.ttl.min(TTL_CAP).to_string())
}

/// Name, status, `errno` and message; of several with one status, the usual one first.
const ERRORS: [(&str, u16, Option<u16>, &str); 47] = [
    ("gone", 410, Some(106), "No such subscription"),
    ("user_gone", 410, Some(103), "No such user"),
    ("user_deleted", 410, Some(105), "User was deleted"),
    ("app_gone", 400, Some(106), "Invalid app id"),
    (
        "payload_too_large",
        413,
        Some(104),
        "payload reached size limit",
    ),
    (
        "constrained_device",
        413,
        Some(104),
        "This message is intended for a constrained device and is limited in size. Converted \
         buffer is too long by 57 bytes",
    ),
    ("vapid_rejected", 401, Some(109), "InvalidSignature"),
    ("vapid_expired", 401, Some(109), "ExpiredSignature"),
    ("key_mismatch", 401, Some(109), "VAPID public key mismatch"),
    ("vapid_audience", 401, Some(109), "Invalid VAPID audience"),
    (
        "vapid_no_audience",
        401,
        Some(109),
        "Invalid VAPID token: Missing required aud",
    ),
    (
        "vapid_too_long",
        401,
        Some(109),
        "The VAPID token expiration is too long",
    ),
    ("vapid_missing", 401, Some(109), "Missing VAPID public key"),
    ("vapid_key", 401, Some(109), "InvalidEcdsaKey"),
    ("vapid_token", 401, Some(109), "InvalidToken"),
    ("vapid_algorithm", 401, Some(109), "InvalidAlgorithm"),
    ("vapid_scheme", 401, Some(109), "Unknown auth scheme"),
    (
        "vapid_claims",
        401,
        Some(109),
        "Invalid VAPID token: A value in the vapid claims is either missing or incorrectly \
         specified (e.g. \"exp\":\"12345\" or \"sub\":null). Please correct and retry.",
    ),
    ("bad_request", 400, None, "Bad Request"),
    ("router_type", 400, Some(108), "Invalid router type"),
    (
        "coding_missing",
        400,
        Some(110),
        "Missing Content-Encoding header",
    ),
    (
        "coding_unknown",
        400,
        Some(110),
        "Unknown Content-Encoding header",
    ),
    (
        "salt_header",
        400,
        Some(110),
        "Do not include 'salt' header in aes128gcm Encryption header",
    ),
    (
        "dh_header",
        400,
        Some(110),
        "Do not include 'dh' header in aes128gcm Crypto-Key header",
    ),
    (
        "crypto_key_missing",
        400,
        Some(110),
        "Missing Crypto-Key header",
    ),
    (
        "encryption_missing",
        400,
        Some(110),
        "Missing Encryption header",
    ),
    (
        "salt_missing",
        400,
        Some(110),
        "Missing salt value in Encryption header",
    ),
    (
        "dh_missing",
        400,
        Some(110),
        "Missing dh value in Crypto-Key header",
    ),
    ("keys_missing", 400, Some(101), "Missing crypto keys"),
    ("ttl_missing", 400, Some(111), "Missing TTL value"),
    ("ttl_invalid", 400, Some(112), "Invalid TTL value"),
    (
        "ttl_negative",
        400,
        Some(114),
        "ttl: TTL must be greater than 0",
    ),
    (
        "topic_length",
        400,
        Some(113),
        "topic: Topic must be no greater than 32 characters",
    ),
    (
        "topic_alphabet",
        400,
        Some(113),
        "topic: Topic must be URL and Filename safe Base64 alphabet",
    ),
    ("internal_error", 500, None, "Internal Server Error"),
    ("save_failed", 500, Some(201), "Could not save the message"),
    ("unavailable", 503, None, "Service Unavailable"),
    ("not_saved", 503, Some(201), "Could not save the message"),
    (
        "bad_gateway",
        502,
        None,
        "Bridge returned an invalid response",
    ),
    (
        "bridge_rejected",
        502,
        Some(901),
        "Bridge authentication failed",
    ),
    ("bridge_unreachable", 502, Some(902), "Bridge unreachable"),
    ("bridge_timeout", 502, Some(903), "Bridge timeout"),
    ("throttled", 429, Some(201), "Too Many Requests"),
    (
        "android_quota",
        429,
        Some(201),
        "Upstream error, RESOURCE_EXHAUSTED: Quota exceeded for quota metric 'Message send \
         requests'",
    ),
    (
        "android_unavailable",
        503,
        Some(201),
        "Upstream error, UNAVAILABLE: The service is currently unavailable.",
    ),
    ("retry_at_once", 503, Some(202), "Please retry"),
    ("teapot", 418, Some(999), "A test of the logs"),
];

fn answers() -> Vec<(&'static str, ServiceAnswer)> {
    let bare = [
        ("not_found", ServiceAnswer::new(404)),
        ("method", ServiceAnswer::new(405).header("allow", "POST")),
    ];
    let actual = ERRORS.map(|(name, status, errno, message)| (name, error(status, errno, message)));
    bare.into_iter().chain(actual).collect()
}

fn error(status: u16, errno: Option<u16>, message: &str) -> ServiceAnswer {
    let answer = ServiceAnswer::new(status);
    let reason = answer.status.canonical_reason().unwrap_or_default();
    let answer = answer.json(&json!({
        "code": status, "errno": errno, "error": reason, "message": message,
        "more_info": "http://autopush.readthedocs.io/en/latest/http.html#error-codes",
    }));
    match answer.status {
        StatusCode::GONE => answer.header("cache-control", "max-age=86400"),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            answer.header("retry-after", "120")
        }
        _ => answer,
    }
}

fn refuse(refusal: &Refusal) -> Option<ServiceAnswer> {
    let name = match refusal {
        Refusal::Decrypt(DecryptError::Parameter { name: "salt", .. }) => "salt_missing",
        Refusal::Decrypt(DecryptError::Parameter { .. }) => "dh_missing",
        Refusal::Vapid(VapidError::Claim("sub", _)) => return None,
        Refusal::TooLarge(length) if *length <= BODY_CAP => return None,
        Refusal::TooLarge(_) => "payload_too_large",
        Refusal::NotFound => "not_found",
        Refusal::Method => "method",
        Refusal::Ttl(text) if text.parse::<i64>().is_ok_and(|ttl| ttl < 0) => "ttl_negative",
        Refusal::TtlMissing | Refusal::Ttl(_) => "ttl_missing",
        Refusal::Topic(topic) if topic.len() > 32 => "topic_length",
        Refusal::Topic(_) => "topic_alphabet",
        Refusal::CodingMissing => "coding_missing",
        Refusal::Coding(_) => "coding_unknown",
        Refusal::LegacyHeader("encryption") => "salt_header",
        Refusal::LegacyHeader(_) => "dh_header",
        // The key of a token in the form of before the RFC.
        Refusal::Vapid(VapidError::Missing("p256ecdsa")) => "crypto_key_missing",
        Refusal::Vapid(error) => of_vapid(error),
        Refusal::Repeated(_) | Refusal::NotText(_) => "bad_request",
        // The body is not looked into, Urgency is never read, any sub will do.
        _ => return None,
    };
    named(answers(), name)
}

fn of_vapid(error: &VapidError) -> &'static str {
    match error {
        VapidError::Absent | VapidError::Missing("k") => "vapid_missing",
        VapidError::Scheme => "vapid_scheme",
        VapidError::Key => "vapid_key",
        VapidError::Algorithm => "vapid_algorithm",
        VapidError::SignatureLength(_) | VapidError::Signature => "vapid_rejected",
        VapidError::Claim(..) => "vapid_claims",
        VapidError::Audience { .. } => "vapid_audience",
        VapidError::Expired => "vapid_expired",
        VapidError::TooLong => "vapid_too_long",
        VapidError::KeyMismatch => "key_mismatch",
        _ => "vapid_token",
    }
}
