//! The Windows Notification Service (classify/README.md §1.4): headers, and no body.

use std::time::{Duration, SystemTime};

use super::retry_after;
use crate::outcome::Scope;

use super::answer_view::{AnswerView, holds};
use super::diagnosis::{Cooldown, Diagnosis, Throttle};

/// Where it says what became of a message that was taken.
const STATUSES: [&str; 2] = ["x-wns-status", "x-wns-notificationstatus"];
const RECEIVED: &str = "received";

/// What the other statuses mean (rows 1 and 2).
const TAKEN: &[(&str, Diagnosis)] = &[
    ("channelthrottled", Diagnosis::Throttled(CHANNEL)),
    ("appthrottled", Diagnosis::Throttled(CHANNEL)),
    ("dropped", Diagnosis::NotDelivered),
];

/// Where it says what a request lacks.
const DESCRIPTION: &str = "x-wns-error-description";
const WWW_AUTHENTICATE: &str = "www-authenticate";

/// row 25
const TTL_CONFLICT: &str = "Ttl value conflicts";

/// A 401 whose description speaks of both is about this channel, not about the token (row 14).
const KEY_AND_CHANNEL: [&str; 2] = ["key", "channel"];

/// Ways to say that a token is wrong (row 21).
const TOKEN: [&str; 3] = ["JWT", "token", "authentication"];

/// Beside `Retry-After`, and in seconds.
const CONTINUE_AFTER: &str = "x-wns-continue-after";

/// The headers that are repeated to people.
const WORDS: [&str; 5] = [
    DESCRIPTION,
    STATUSES[0],
    STATUSES[1],
    "x-wns-deviceconnectionstatus",
    WWW_AUTHENTICATE,
];

/// One channel has had enough (row 1).
const CHANNEL: Throttle = Throttle {
    pause: None,
    cooldown: Cooldown::AtLeast(Duration::from_secs(60)),
};

/// 406 speaks of the sender (row 27).
const SENDER: Throttle = Throttle {
    pause: Some(Scope::Key),
    cooldown: Cooldown::Doubling {
        first: Duration::from_secs(60),
        cap: Duration::from_secs(3600),
    },
};

/// Returns whether the answer is WNS's own: all of them have headers of that name.
pub(super) fn is_from_it(view: &AnswerView<'_>) -> bool {
    let mut names = view.headers.keys();
    names.any(|name| name.as_str().starts_with("x-wns-"))
}

/// Returns what WNS says, if it is one of its ways to say it.
pub(super) fn diagnose(view: &AnswerView<'_>) -> Option<Diagnosis> {
    match view.status {
        200..=299 => taken(view),
        400 => bad_header(view),
        401 => unauthorized(view),
        // row 14: this sender may not use this channel
        403 => Some(Diagnosis::KeyMismatch),
        406 => Some(Diagnosis::Throttled(SENDER)),
        _ => None,
    }
}

/// Whatever became of it, if not received, did not reach the device.
fn taken(view: &AnswerView<'_>) -> Option<Diagnosis> {
    let status = STATUSES.iter().find_map(|name| view.header(name))?;
    if status.eq_ignore_ascii_case(RECEIVED) {
        return None;
    }
    let known = TAKEN
        .iter()
        .find(|(name, _)| status.eq_ignore_ascii_case(name));
    Some(known.map_or(Diagnosis::PerhapsNotDelivered, |(_, diagnosis)| *diagnosis))
}

fn bad_header(view: &AnswerView<'_>) -> Option<Diagnosis> {
    let description = view.header(DESCRIPTION)?;
    if holds(description.as_bytes(), TTL_CONFLICT) {
        return Some(Diagnosis::TtlRefused);
    }
    Some(Diagnosis::BadRequest)
}

fn unauthorized(view: &AnswerView<'_>) -> Option<Diagnosis> {
    let description = view
        .header(DESCRIPTION)
        .or_else(|| view.header(WWW_AUTHENTICATE))?;
    let speaks_of = |word: &str| holds(description.as_bytes(), word);
    if KEY_AND_CHANNEL.iter().all(|word| speaks_of(word)) {
        return Some(Diagnosis::KeyMismatch);
    }
    TOKEN
        .iter()
        .any(|word| speaks_of(word))
        .then_some(Diagnosis::TokenRefused)
}

/// Returns how long WNS asks to be left alone, by either of its headers.
pub(super) fn pause(view: &AnswerView<'_>, now: SystemTime, cap: Duration) -> Option<Duration> {
    let seconds = view.headers.get(CONTINUE_AFTER);
    let seconds = seconds.and_then(|value| retry_after::parse(value.as_bytes(), now, cap));
    view.retry_after(now, cap).max(seconds)
}

/// Returns the headers that say what it thinks.
pub(super) fn service_text(view: &AnswerView<'_>) -> Option<String> {
    let present = WORDS.iter().filter_map(|name| {
        let value = view.header(name)?;
        let worth_saying = !value.is_empty() && !value.eq_ignore_ascii_case(RECEIVED);
        worth_saying.then(|| format!("{name}: {value}"))
    });
    let words = present.collect::<Vec<_>>().join("; ");
    (!words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use crate::classify::Context;
    use crate::classify::tests::{check, context};
    use crate::origin::Service;

    const STATUS: &str = "X-WNS-Status";

    // classify/README.md §1.4, with §2 rows 1 and 2
    #[test]
    fn what_it_took_may_still_not_arrive() {
        check(
            context(Service::Wns),
            &[
                (201, &[], "", "accepted accepted"),
                (
                    201,
                    &[(STATUS, "received"), ("X-WNS-Msg-ID", "4D0F2A7B3C")],
                    "",
                    "accepted accepted: x-wns-msg-id: 4D0F2A7B3C",
                ),
                (
                    200,
                    &[
                        ("X-WNS-NotificationStatus", "dropped"),
                        ("X-WNS-DeviceConnectionStatus", "disconnected"),
                    ],
                    "",
                    "accepted not_delivered: x-wns-notificationstatus: dropped; \
                     x-wns-deviceconnectionstatus: disconnected",
                ),
                (
                    201,
                    &[(STATUS, "somethingnew")],
                    "",
                    "accepted not_delivered unfamiliar: x-wns-status: somethingnew",
                ),
                (
                    200,
                    &[(STATUS, "channelthrottled")],
                    "",
                    "retryable throttled after 60s: x-wns-status: channelthrottled",
                ),
                (
                    201,
                    &[(STATUS, "channelthrottled"), ("Retry-After", "10")],
                    "",
                    "retryable throttled after 60s: x-wns-status: channelthrottled",
                ),
                (
                    200,
                    &[
                        (STATUS, "appthrottled"),
                        ("Retry-After", "90"),
                        ("X-WNS-CONTINUE-AFTER", "300"),
                    ],
                    "",
                    "retryable throttled after 300s: x-wns-status: appthrottled",
                ),
            ],
        );
    }

    // classify/README.md §1.4
    #[test]
    fn its_descriptions_are_understood() {
        check(
            context(Service::Wns),
            &[
                (
                    400,
                    &[(
                        "X-WNS-Error-Description",
                        "Ttl value conflicts with X-WNS-Cache-Policy.",
                    )],
                    "",
                    "rejected bad_request again ttl_of_one: x-wns-error-description: Ttl value \
                     conflicts with X-WNS-Cache-Policy.",
                ),
                (
                    400,
                    &[("X-WNS-Error-Description", "Malformed Crypto-Key Value")],
                    "",
                    "rejected bad_request: x-wns-error-description: Malformed Crypto-Key Value",
                ),
                (
                    401,
                    &[("X-WNS-Error-Description", "JWT Authentication Failed")],
                    "",
                    "retryable vapid_rejected again fresh_token: x-wns-error-description: JWT \
                     Authentication Failed",
                ),
                (
                    401,
                    &[("WWW-Authenticate", "Bearer error=\"invalid_token\"")],
                    "",
                    "retryable vapid_rejected again fresh_token: www-authenticate: Bearer \
                     error=\"invalid_token\"",
                ),
                (
                    401,
                    &[(
                        "X-WNS-Error-Description",
                        "The public key does not fit the channel",
                    )],
                    "",
                    "rejected key_mismatch again another_key: x-wns-error-description: The \
                     public key does not fit the channel",
                ),
                (
                    401,
                    &[],
                    "",
                    "retryable vapid_rejected again fresh_token unfamiliar",
                ),
                (403, &[], "", "rejected key_mismatch again another_key"),
                (
                    404,
                    &[(STATUS, "dropped")],
                    "",
                    "gone not_found: x-wns-status: dropped",
                ),
                (405, &[], "", "rejected bad_request"),
                (410, &[], "", "gone expired_subscription"),
                (
                    413,
                    &[],
                    "",
                    "rejected payload_too_large: the request's body had 4096 bytes",
                ),
                (429, &[], "", "retryable throttled pause origin"),
                (
                    503,
                    &[("Retry-After", "15")],
                    "",
                    "retryable service_unavailable after 15s down",
                ),
            ],
        );
    }

    #[test]
    fn its_406_is_left_alone_for_twice_as_long_each_time() {
        for (attempt, expected) in [
            (1, "retryable throttled after 60s pause key"),
            (2, "retryable throttled after 120s pause key"),
            (6, "retryable throttled after 1920s pause key"),
            (7, "retryable throttled after 3600s pause key"),
            (u32::MAX, "retryable throttled after 3600s pause key"),
        ] {
            let context = Context {
                attempt,
                ..context(Service::Wns)
            };
            check(context, &[(406, &[], "", expected)]);
            let asks = "retryable throttled after 10s pause key";
            check(context, &[(406, &[("Retry-After", "10")], "", asks)]);
        }
    }
}
