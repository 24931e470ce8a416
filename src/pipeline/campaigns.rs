//! What is new of campaigns and was not published yet.

use std::collections::BTreeMap;
use std::mem;
use std::time::{SystemTime, UNIX_EPOCH};

use lapin::types::FieldTable;
use parking_lot::Mutex;
use tracing::warn;

use crate::broker::{Publication, Route};
use crate::wire::Kind;
use crate::wire::progress;
use crate::wire::progress::{Campaign, News, Number};

/// How many campaigns are counted between two reports. Some producers write a group of its own into
/// every event.
const LIMIT: usize = 1000;

/// Counts what is new of campaigns until it is published.
pub(super) struct Campaigns {
    daemon: u64,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    news: BTreeMap<Campaign, News>,
    sequence: u64,
    /// How often something was left out since the last report, and whether that was told.
    left_out: usize,
    is_told: bool,
}

impl Campaigns {
    /// Creates the counts of a daemon that is named by a random number.
    pub(super) fn new(daemon: u64) -> Self {
        Self {
            daemon,
            table: Mutex::default(),
        }
    }

    /// Counts what is new of a campaign.
    pub(super) fn add(&self, campaign: Campaign, news: &News) {
        if *news == News::default() {
            return;
        }
        let mut table = self.table.lock();
        let has_room = table.news.len() < LIMIT;
        if has_room || table.news.contains_key(&campaign) {
            table.news.entry(campaign).or_default().add(news);
        } else {
            table.left_out += 1;
        }
    }

    /// Returns a progress message for each campaign of which something is new.
    pub(super) fn report(&self, now: SystemTime) -> Vec<Publication> {
        let mut table = self.table.lock();
        let (news, left_out) = table.begin_report();
        if let Some(left_out) = left_out {
            warn!(
                left_out,
                "more than {LIMIT} groups between two progress reports: what was done for the others is left \
                 out of their progress"
            );
        }
        let news = news.into_iter();
        news.map(|(campaign, news)| {
            table.sequence += 1;
            let number = Number {
                daemon: self.daemon,
                sequence: table.sequence,
            };
            publication(&campaign, &news, number, now)
        })
        .collect()
    }
}

impl Table {
    /// Takes what is new, and how often something was left out, if that was not told since it began.
    fn begin_report(&mut self) -> (BTreeMap<Campaign, News>, Option<usize>) {
        let left_out = mem::take(&mut self.left_out);
        let was_told = mem::replace(&mut self.is_told, left_out > 0);
        let left_out = Some(left_out).filter(|count| *count > 0 && !was_told);
        (mem::take(&mut self.news), left_out)
    }
}

fn publication(campaign: &Campaign, news: &News, number: Number, now: SystemTime) -> Publication {
    Publication {
        to: Route::Results(progress::routing_key(campaign)),
        kind: Kind::Progress,
        message_id: progress::message_id(number),
        correlation_id: None,
        timestamp: now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        priority: None,
        headers: FieldTable::default(),
        body: progress::body(campaign, news, number, now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn campaign(group: usize) -> Campaign {
        Campaign {
            app: None,
            label: None,
            group: group.to_string().into(),
        }
    }

    fn news(recipients: u64) -> News {
        News {
            recipients,
            ..News::default()
        }
    }

    #[test]
    fn what_is_new_is_reported_once_and_numbered() {
        let campaigns = Campaigns::new(7);
        campaigns.add(campaign(1), &news(2));
        campaigns.add(campaign(1), &news(3));
        campaigns.add(campaign(2), &news(0));
        let ids = |publications: Vec<Publication>| {
            let ids = publications.into_iter().map(|it| it.message_id);
            ids.collect::<Vec<_>>()
        };
        let first = campaigns.report(UNIX_EPOCH);
        assert!(
            first[0]
                .body
                .windows(14)
                .any(|it| it == b"\"recipients\":5")
        );
        assert_eq!(ids(first), ["0000000000000007-1"]);
        assert_eq!(ids(campaigns.report(UNIX_EPOCH)), [""; 0]);
        campaigns.add(campaign(2), &news(1));
        assert_eq!(ids(campaigns.report(UNIX_EPOCH)), ["0000000000000007-2"]);
    }

    #[test]
    fn a_group_for_every_event_takes_no_more_memory_than_some() {
        let campaigns = Campaigns::new(7);
        (0..3 * LIMIT).for_each(|group| campaigns.add(campaign(group), &news(1)));
        campaigns.add(campaign(0), &news(1));
        assert_eq!(campaigns.report(UNIX_EPOCH).len(), LIMIT);
        assert_eq!(campaigns.report(UNIX_EPOCH).len(), 0);
    }

    #[test]
    fn too_many_groups_are_told_once_until_all_are_counted_again() {
        let campaigns = Campaigns::new(7);
        let mut told = Vec::new();
        for groups in [2 * LIMIT, 2 * LIMIT, LIMIT, 2 * LIMIT] {
            (0..groups).for_each(|group| campaigns.add(campaign(group), &news(1)));
            told.push(campaigns.table.lock().begin_report().1);
        }
        assert_eq!(told, [Some(LIMIT), None, None, Some(LIMIT)]);
    }
}
