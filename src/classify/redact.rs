//! A push service's own words, made fit to be read by people.
//!
//! An answer may echo the request: its URL, which is a capability, or its token. So what looks
//! like either is left out, wherever it stands; of HTML the title is kept, or what is between
//! the tags.

/// The longest text of a push service that is repeated, in bytes.
const LIMIT: usize = 512;

/// The longest run of characters that may be a word; tokens and keys are longer.
const WORD_LIMIT: usize = 32;

/// The longest authority of a URL that is repeated.
const AUTHORITY_LIMIT: usize = 64;

const LEFT_OUT: &str = "[\u{2026}]";

/// Returns the text of `body` in at most 512 bytes, without what may be a secret.
pub(super) fn plain(body: &[u8]) -> Option<Box<str>> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches(char::REPLACEMENT_CHARACTER).trim();
    let plain = if text.starts_with('<') {
        redacted(&of_html(text))
    } else {
        redacted(text)
    };
    (!plain.is_empty()).then(|| plain.into())
}

/// Joins a service's words and a sentence of ours, in at most 512 bytes.
pub(super) fn joined(service_text: Option<Box<str>>, ours: Option<Box<str>>) -> Option<Box<str>> {
    match (service_text, ours) {
        (Some(service_text), Some(ours)) => {
            let room = LIMIT.saturating_sub(ours.len() + " ()".len());
            let service_text = &service_text[..service_text.floor_char_boundary(room)];
            Some(format!("{service_text} ({ours})").into())
        }
        (service_text, ours) => service_text.or(ours),
    }
}

/// Cuts `text` to at most 512 bytes.
pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LIMIT)]
}

fn redacted(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while !rest.is_empty() && plain.len() < LIMIT {
        let end = rest.find(is_separator).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        push_run(&mut plain, run);
        let mut after = after.chars();
        if let Some(separator) = after.next() {
            push_separator(&mut plain, separator);
        }
        rest = after.as_str();
    }
    cut(&plain).trim_end().to_owned()
}

/// Letters outside ASCII are in no URL and no token.
fn is_separator(c: char) -> bool {
    !c.is_ascii_graphic() || "\"'`<>(){}[],;|\\".contains(c)
}

fn push_separator(plain: &mut String, separator: char) {
    if separator.is_whitespace() || separator.is_control() {
        if !plain.is_empty() && !plain.ends_with(' ') {
            plain.push(' ');
        }
    } else if separator != char::REPLACEMENT_CHARACTER {
        plain.push(separator);
    }
}

fn push_run(plain: &mut String, run: &str) {
    match run.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let fits = scheme.len() <= WORD_LIMIT && authority.len() <= AUTHORITY_LIMIT;
            if !fits || authority.contains('@') {
                plain.push_str(LEFT_OUT);
                return;
            }
            plain.push_str(scheme);
            plain.push_str("://");
            plain.push_str(authority);
            if authority.len() < rest.len() {
                plain.push('/');
                plain.push_str(LEFT_OUT);
            }
        }
        None if run.len() > WORD_LIMIT => plain.push_str(LEFT_OUT),
        None => plain.push_str(run),
    }
}

/// Returns the title of a page, or else what stands between its tags.
fn of_html(page: &str) -> String {
    let lower = page.to_ascii_lowercase();
    let title = lower.find("<title>").and_then(|open| {
        let begin = open + "<title>".len();
        let length = lower[begin..].find("</title>")?;
        page.get(begin..begin + length)
    });
    title.map_or_else(|| without_tags(page), str::to_owned)
}

fn without_tags(page: &str) -> String {
    let between = |piece: &str| {
        let text = piece.split_once('>').map_or("", |(_tag, text)| text);
        format!("{text} ")
    };
    page.split('<').map(between).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_may_be_a_secret_is_left_out() {
        let token = "dHIoDxE7Hdg:APA91bH1Zj0kNafgFh0VRwLGpCNDJcaCkOnXm";
        let jwt = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJo.i3CYb7t4xfxCDquptFOepC9GA";
        for (view, repeated) in [
            (
                format!("endpoint as such: https://fcm.googleapis.com/wp/{token}\n"),
                "endpoint as such: https://fcm.googleapis.com/[\u{2026}]",
            ),
            (
                "see https://push.example.net/x and http://a?b".to_owned(),
                "see https://push.example.net/[\u{2026}] and http://a/[\u{2026}]",
            ),
            ("https://me:pass@push.example.net".to_owned(), "[\u{2026}]"),
            (format!("token=\"{token}\"."), "token=\"[\u{2026}]\"."),
            (format!("bad {jwt}, k=BA1H"), "bad [\u{2026}], k=BA1H"),
            (format!("/wpush/v2/{token}"), "[\u{2026}]"),
            (
                "crypto-key header had invalid format".to_owned(),
                "crypto-key header had invalid format",
            ),
        ] {
            assert_eq!(plain(view.as_bytes()).as_deref(), Some(repeated), "{view}");
        }
    }

    #[test]
    fn pages_become_a_line() {
        for (page, line) in [
            (
                "<HTML>\n<HEAD>\n<TITLE>InvalidTokenFormat</TITLE>\n</HEAD><BODY><H1>x</H1></BODY>",
                "InvalidTokenFormat",
            ),
            (
                "<!DOCTYPE html><html><body><p>Not\n\tfound</p>\u{0}</body></html>",
                "Not found",
            ),
            ("<title>unended", "unended"),
            ("<", ""),
            (" \r\n", ""),
            ("two\r\n lines\u{7}", "two lines"),
        ] {
            assert_eq!(
                plain(page.as_bytes()).as_deref().unwrap_or(""),
                line,
                "{page}"
            );
        }
    }

    #[test]
    fn a_long_text_ends_between_characters() {
        let view = "\u{fc} ".repeat(400);
        let repeated = plain(view.as_bytes()).unwrap();
        assert!(repeated.len() <= LIMIT && repeated.len() > LIMIT - 4);
        assert!(view.starts_with(&*repeated));
    }

    proptest! {
        #[test]
        fn no_body_gets_through_long_or_with_a_token_in_it(
            before: Vec<u8>,
            token in "[A-Za-z0-9_-]{43}",
            after: Vec<u8>,
        ) {
            let body = [before, token.clone().into_bytes(), after].concat();
            let repeated = plain(&body).unwrap_or_default();
            prop_assert!(repeated.len() <= LIMIT);
            prop_assert!(!repeated.contains(&token));
            prop_assert!(!repeated.chars().any(char::is_control));
        }
    }
}
