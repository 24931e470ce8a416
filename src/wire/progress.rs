//! The progress message: what one daemon did for a campaign since its last one (examples/README.md,
//! "The progress of a campaign").
//!
//! It counts what is new, so that a consumer adds up messages and need not know how many daemons there
//! are.

use std::time::SystemTime;

use bytes::Bytes;
use serde::Serialize;

use super::output::{self, Time, app_word, label_word};
use super::summary::{Counts, Tally};
use crate::message::Name;

/// A campaign: the events of one application with one label and one group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Campaign {
    /// The configured application, if it is one.
    pub app: Option<Name>,
    /// The label.
    pub label: Option<Name>,
    /// The group.
    pub group: Box<str>,
}

/// What is new of a campaign.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Recipients of events that were taken up for the first time.
    pub recipients: u64,
    /// By how many the recipients have become more that wait; negative if they have become fewer.
    pub waiting: i64,
    /// Recipients that were settled.
    pub settled: Tally,
}

/// Which message of which daemon it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// Drawn when the daemon started.
    pub daemon: u64,
    /// From 1, without gaps over all campaigns of the daemon.
    pub sequence: u64,
}

impl News {
    /// Adds what is new since.
    pub fn add(&mut self, later: &Self) {
        self.recipients += later.recipients;
        self.waiting += later.waiting;
        self.settled.add(&later.settled);
    }
}

/// Writes the body of a progress message.
#[must_use]
pub fn body(campaign: &Campaign, news: &News, number: Number, reported_at: SystemTime) -> Bytes {
    output::write(&Body {
        version: 1,
        app: campaign.app.as_ref(),
        label: label_word(campaign.label.as_ref()),
        group: &campaign.group,
        recipients: news.recipients,
        waiting: news.waiting,
        settled: news.settled.sum(),
        outcomes: Counts(news.settled.outcomes()),
        daemon: daemon_word(number),
        sequence: number.sequence,
        reported_at: Time(reported_at),
    })
}

/// Returns the routing key `progress.<app>.<label>`.
#[must_use]
pub fn routing_key(campaign: &Campaign) -> String {
    let app = app_word(campaign.app.as_ref());
    format!("progress.{app}.{}", label_word(campaign.label.as_ref()))
}

/// Returns the AMQP `message_id`, equal for a repeat.
#[must_use]
pub fn message_id(number: Number) -> String {
    format!("{}-{}", daemon_word(number), number.sequence)
}

fn daemon_word(number: Number) -> String {
    format!("{:016x}", number.daemon)
}

/// The members in their order.
#[derive(Serialize)]
struct Body<'a> {
    version: u8,
    app: Option<&'a Name>,
    label: &'a str,
    group: &'a str,
    recipients: u64,
    waiting: i64,
    settled: u32,
    outcomes: Counts,
    daemon: String,
    sequence: u64,
    reported_at: Time,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::outcome::Reason;

    #[test]
    fn news_are_added_up_and_written_with_every_outcome() {
        let mut news = News {
            recipients: 10,
            waiting: 3,
            ..News::default()
        };
        news.settled.settled(Reason::Accepted);
        let mut later = News {
            waiting: -4,
            ..News::default()
        };
        later.settled.settled(Reason::Accepted);
        later.settled.settled(Reason::Unsubscribed);
        news.add(&later);
        let campaign = Campaign {
            app: Name::parse("shop"),
            label: None,
            group: "spring".into(),
        };
        let number = Number {
            daemon: 0xab,
            sequence: 7,
        };
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let written = body(&campaign, &news, number, at);
        let expected = r#"{"version":1,"app":"shop","label":"_","group":"spring","recipients":10,"#
            .to_owned()
            + r#""waiting":-1,"settled":3,"outcomes":{"accepted":2,"gone":1,"rejected":0,"#
            + r#""expired":0,"cancelled":0,"failed":0},"daemon":"00000000000000ab","sequence":7,"#
            + r#""reported_at":"1970-01-01T00:00:01.000Z"}"#;
        assert_eq!(written, expected);
        assert_eq!(routing_key(&campaign), "progress.shop._");
        assert_eq!(message_id(number), "00000000000000ab-7");
    }
}
