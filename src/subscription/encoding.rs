//! The encodings that keys are found in.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose};

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const BASE64URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Decodes base64url or base64, padded or not, with white space anywhere: what is found in
/// subscription tables (classify/README.md §4).
#[must_use]
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut compact = text.trim_ascii();
    let without_space;
    if compact.bytes().any(|byte| byte.is_ascii_whitespace()) {
        without_space = compact.split_ascii_whitespace().collect::<String>();
        compact = &without_space;
    }
    let compact = compact.trim_end_matches('=');
    let engine = if compact.contains(['+', '/']) {
        &BASE64
    } else {
        &BASE64URL
    };
    engine.decode(compact).ok()
}

/// Encodes base64url without padding, the form of every key and token in Web Push.
#[must_use]
pub fn encode_base64url(bytes: &[u8]) -> String {
    general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
