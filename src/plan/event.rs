//! What to do with an event as a whole: refuse it, wait, split it, or push to its recipients.
//!
//! Why in this order: what has run out of time ends before it waits any longer; what must wait
//! does so whole, as one message; only what is due is split, so that a scheduled campaign is one
//! message in the delay bands and not hundreds.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{Context, SHA256};

use super::Refusal;
use super::deadline::Deadline;
use super::quiet_hours::{self, Quiet, quiet};
use super::split::{Split, split};
use crate::app::App;
use crate::app::Results;
use crate::message::{EventId, TTL_LIMIT, Ttl};
use crate::outcome::{Reason, Waiting, Warning};
use crate::wire::event::Event;
use crate::wire::headers::RetryHistory;

/// What an operator decides about planning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The most recipients that are pushed to from one message; a larger event is split.
    pub chunk: usize,
    /// The longest wait that is held in memory.
    pub hold: Duration,
    /// How far ahead a message may be scheduled.
    pub horizon: Duration,
    /// The longest that a message waits between two attempts.
    pub longest_wait: Duration,
}

/// When an event is planned. The two times differ where push services contradict this machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The earliest time that it may be.
    pub earliest: SystemTime,
    /// The latest time that it may be.
    pub latest: SystemTime,
    /// A number from 0 to 1, which spreads those who wait for the same time.
    pub jitter: f64,
}

/// What holds for every recipient of an event, and what to do next.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What holds for every recipient.
    pub terms: Terms,
    /// What to do next.
    pub step: Step,
}

/// What holds for every recipient of an event.
#[derive(Clone, Debug)]
pub struct Terms {
    /// When it was created: the same on every pass ([`RetryHistory::created_at`]).
    pub created_at: SystemTime,
    /// Until when it may be sent.
    pub deadline: Deadline,
    /// Which delivery results are published.
    pub results: Results,
    /// What was changed or ignored.
    pub warnings: Vec<Warning>,
}

/// What to do next with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Publish each part by itself to the due queue.
    Split(Split),
    /// Wait in the broker.
    Wait {
        /// How long.
        after: Duration,
        /// When it may go on, for [`RetryHistory::not_before`].
        until: SystemTime,
        /// What for.
        waiting: Waiting,
    },
    /// Its time has run out: every recipient ends so.
    Expire {
        /// Which time.
        reason: Reason,
        /// What it was waiting for.
        detail: Box<str>,
    },
    /// Push to every recipient.
    Push {
        /// What is left to wait, short enough to be held in memory.
        hold: Duration,
    },
}

/// Plans what to do with an event of `app` at a moment.
///
/// `timestamp` is the AMQP property, in seconds since 1970.
///
/// # Errors
/// If the event ends as a whole: its content is too large for anybody, `invalid_schedule`, or what
/// ended the event that it is a chunk of.
pub fn plan(
    event: &Event<'_>,
    app: &App,
    history: &RetryHistory,
    timestamp: Option<u64>,
    settings: &Settings,
    moment: Moment,
) -> Result<Plan, Refusal> {
    if let Some(refusal) = &history.refusal {
        return Err(refusal.clone());
    }
    if let Some(fault) = event.oversized() {
        return Err(fault.into());
    }
    check_schedule(event, settings.horizon, moment.latest)?;
    let terms = Terms::of(event, app, history, timestamp, moment.latest);
    let pace = event
        .max_per_second
        .into_iter()
        .chain(app.max_per_second)
        .min();
    let step = next_step(event, &terms.deadline, pace, history, settings, moment);
    Ok(Plan { terms, step })
}

fn check_schedule(event: &Event<'_>, horizon: Duration, now: SystemTime) -> Result<(), Refusal> {
    let Some(deliver_at) = event.deliver_at else {
        return Ok(());
    };
    let detail = if deliver_at
        .duration_since(now)
        .is_ok_and(|ahead| ahead > horizon)
    {
        let days = horizon.as_secs() / (24 * 60 * 60);
        format!("deliver_at: expected a time at most {days} days ahead").into()
    } else if event
        .expires_at
        .is_some_and(|expires_at| expires_at <= deliver_at)
    {
        "expires_at: expected a time after deliver_at; nothing could ever be sent".into()
    } else {
        return Ok(());
    };
    Err(Refusal {
        reason: Reason::InvalidSchedule,
        detail,
    })
}

/// How far ahead of this machine's clock a producer's may be before anybody is told: two clocks
/// are never quite equal.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

impl Terms {
    /// Reads the terms of an event that was created by `latest`.
    ///
    /// Where push services contradict this machine's clock, an event counts as created at the later
    /// of the two times: at the earlier one, it would end too soon once the clocks agree.
    fn of(
        event: &Event<'_>,
        app: &App,
        history: &RetryHistory,
        timestamp: Option<u64>,
        latest: SystemTime,
    ) -> Self {
        let mut warnings = Vec::new();
        // A later pass comes with the timestamp of our own copy.
        let stamp = timestamp.filter(|_| history.created_at.is_none());
        let claimed = event.created_at.or(stamp.and_then(moment_of));
        let created_at = history.created_at.or(claimed);
        let created_at = created_at.unwrap_or(latest).min(latest);
        let tolerated = created_at.checked_add(CLOCK_TOLERANCE);
        if claimed > tolerated {
            warnings.push(Warning::CreatedInFuture);
        }
        let seconds = event.ttl.unwrap_or(app.ttl.into());
        if seconds > TTL_LIMIT.into() {
            warnings.push(Warning::TtlClamped(seconds));
        }
        let due = event.deliver_at.map_or(created_at, |at| at.max(created_at));
        Self {
            created_at,
            deadline: Deadline::of(due, Ttl::clamped(seconds), event.expires_at),
            results: event.results.unwrap_or(app.results),
            warnings,
        }
    }
}

/// Reads the AMQP property `timestamp`; some clients write 0 for none.
fn moment_of(timestamp: u64) -> Option<SystemTime> {
    let since_epoch = Some(timestamp).filter(|seconds| *seconds > 0)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(since_epoch))
}

fn next_step(
    event: &Event<'_>,
    deadline: &Deadline,
    pace: Option<NonZeroU32>,
    history: &RetryHistory,
    settings: &Settings,
    moment: Moment,
) -> Step {
    let now = moment.earliest;
    let (until, waiting) = may_go_on(event, history, settings.longest_wait, now);
    let left = deadline.left(now);
    let wait = until
        .and_then(|until| until.duration_since(now).ok())
        .unwrap_or_default();
    // A message is reported as expired at its deadline, not when a later wait is over.
    if let Some(wait) = left
        .map(|left| wait.min(left))
        .filter(|wait| *wait > settings.hold)
    {
        return Step::Wait {
            after: wait,
            until: now + wait,
            waiting,
        };
    }
    let quiet = left.and_then(|_| quiet_for_all(event, deadline, now + wait, moment.jitter));
    if let Some(Quiet::Until(until)) = quiet {
        return Step::Wait {
            after: until.duration_since(now).unwrap_or_default(),
            until,
            waiting: Waiting::QuietHours,
        };
    }
    let chunk = chunk_size(settings.chunk, pace);
    if let Some(split) = split(event, chunk, history, None) {
        return Step::Split(match pace {
            Some(pace) => split.paced(pace),
            None => split,
        });
    }
    if left.is_none() || quiet == Some(Quiet::TooLong) {
        let detail = quiet.map_or_else(|| what_for(history), |_| quiet_hours::OUTLASTS.to_owned());
        return Step::Expire {
            reason: deadline.reason,
            detail: detail.into(),
        };
    }
    Step::Push { hold: wait }
}

/// Returns how many recipients a chunk has at most: not more than those of a second, so that a slow pace
/// is even.
fn chunk_size(most: usize, pace: Option<NonZeroU32>) -> usize {
    let in_a_second = pace.and_then(|pace| pace.get().try_into().ok());
    in_a_second.map_or(most, |count| most.min(count))
}

/// Returns what follows from the delivery hours of an event whose recipients have none of their own.
fn quiet_for_all(
    event: &Event<'_>,
    deadline: &Deadline,
    at: SystemTime,
    jitter: f64,
) -> Option<Quiet> {
    let found = quiet(event.options.hours.as_ref(), deadline, at, jitter)?;
    let mut recipients = event.recipients();
    let has_own = recipients.any(|raw| raw.delivery_hours().is_some());
    (!has_own).then_some(found)
}

/// Returns the earliest time at which an event may go on, and what it waits for until then.
///
/// A wait that would be longer than any was written by a clock that has been set back since: it
/// does not count.
fn may_go_on(
    event: &Event<'_>,
    history: &RetryHistory,
    longest_wait: Duration,
    now: SystemTime,
) -> (Option<SystemTime>, Waiting) {
    let latest = now.checked_add(longest_wait);
    let not_before = history
        .not_before
        .filter(|at| latest.is_none_or(|latest| *at <= latest));
    if not_before > event.deliver_at {
        let waiting = history.waiting.unwrap_or(Waiting::Scheduled);
        (not_before, waiting)
    } else {
        (event.deliver_at, Waiting::Scheduled)
    }
}

fn what_for(history: &RetryHistory) -> String {
    match history.waiting {
        None => "its time ran out before it was taken from the queue".to_owned(),
        Some(Waiting::Scheduled) => "its time ran out before it was taken up when due".to_owned(),
        Some(Waiting::QuietHours) => {
            "its time ran out before it was taken up in its delivery hours".to_owned()
        }
        Some(Waiting::Busy) => "its time ran out while it waited for room to send".to_owned(),
        Some(Waiting::Retry(reason)) => {
            let reason = reason.name();
            format!("its time ran out before it could be tried again ({reason})")
        }
    }
}

/// Names an event: as its body does, else as an earlier pass did, else by the AMQP `message_id`,
/// else after what it says, so that a redelivery has the same name.
#[must_use]
pub fn event_id(
    event: Option<&EventId>,
    history: &RetryHistory,
    message_id: Option<&str>,
    timestamp: Option<u64>,
    body: &[u8],
) -> EventId {
    event
        .or(history.event_id.as_ref())
        .cloned()
        .or_else(|| message_id.and_then(EventId::parse))
        .unwrap_or_else(|| {
            let mut context = Context::new(&SHA256);
            context.update(&timestamp.unwrap_or_default().to_be_bytes());
            context.update(body);
            let mut digest = [0; 32];
            digest.copy_from_slice(context.finish().as_ref());
            EventId::derived(&digest)
        })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::event::decode;
    use crate::wire::headers::Chunk;

    /// 2026-11-21 12:00:00 UTC.
    const NOON: u64 = 1_795_262_400;

    const SETTINGS: Settings = Settings {
        chunk: 50,
        hold: Duration::from_secs(1),
        horizon: Duration::from_secs(30 * 24 * 60 * 60),
        longest_wait: Duration::from_secs(24 * 60 * 60),
    };

    fn noon(offset: i64) -> SystemTime {
        let seconds = NOON.checked_add_signed(offset).unwrap();
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn at(earliest: i64, latest: i64) -> Moment {
        Moment {
            earliest: noon(earliest),
            latest: noon(latest),
            jitter: 0.0,
        }
    }

    fn body(members: &str) -> Bytes {
        format!(r#"{{"subscription":{{"endpoint":"https://a.example/x"}}{members}}}"#).into()
    }

    fn planned(
        members: &str,
        history: &RetryHistory,
        timestamp: Option<u64>,
    ) -> Result<Plan, Refusal> {
        let body = body(members);
        plan(
            &decode(&body).unwrap(),
            &App::for_tests("shop"),
            history,
            timestamp,
            &SETTINGS,
            at(0, 0),
        )
    }

    fn step(members: &str, history: &RetryHistory) -> Step {
        planned(members, history, None).unwrap().step
    }

    const NOW: Step = Step::Push {
        hold: Duration::ZERO,
    };

    #[test]
    fn a_pace_makes_chunks_of_a_second_at_most_and_the_smaller_one_counts() {
        let recipients: Vec<_> = (0..20)
            .map(|n| format!(r#"{{"subscription":{{"endpoint":"https://a.example/{n}"}}}}"#))
            .collect();
        let recipients = recipients.join(",");
        let waits = |asked: &str, app: Option<u32>| {
            let body = Bytes::from(format!(r#"{{"recipients":[{recipients}]{asked}}}"#));
            let app = App {
                max_per_second: app.and_then(NonZeroU32::new),
                ..App::for_tests("shop")
            };
            let (event, history) = (decode(&body).unwrap(), RetryHistory::default());
            let plan = plan(&event, &app, &history, None, &SETTINGS, at(0, 0)).unwrap();
            let Step::Split(split) = plan.step else {
                return vec![];
            };
            split.now.iter().map(|it| it.after.as_secs()).collect()
        };
        assert!(waits("", None).is_empty());
        assert_eq!(waits(r#","max_per_second":5"#, None), [0, 1, 2, 3]);
        assert_eq!(waits(r#","max_per_second":20"#, Some(10)), [0, 1]);
        assert_eq!(waits(r#","max_per_second":5"#, Some(10)), [0, 1, 2, 3]);
    }

    #[test]
    fn an_event_without_wishes_is_pushed_now_for_the_apps_ttl() {
        let plan = planned("", &RetryHistory::default(), None).unwrap();
        assert_eq!(plan.step, NOW);
        assert_eq!(plan.terms.created_at, noon(0));
        assert_eq!(plan.terms.deadline.at, noon(86_400));
        assert_eq!(plan.terms.results, Results::All);
        assert_eq!(plan.terms.warnings, []);
    }

    #[test]
    fn the_first_word_on_when_it_was_created_counts() {
        let created = r#","created_at":"2026-11-21T11:59:50Z""#;
        let returned = RetryHistory {
            created_at: Some(noon(-99)),
            ..RetryHistory::default()
        };
        for (members, history, timestamp, at, warned) in [
            (
                created,
                RetryHistory::default(),
                Some(NOON - 20),
                noon(-10),
                false,
            ),
            (
                "",
                RetryHistory::default(),
                Some(NOON - 20),
                noon(-20),
                false,
            ),
            ("", RetryHistory::default(), Some(0), noon(0), false),
            (
                "",
                RetryHistory::default(),
                Some(NOON * 1000),
                noon(0),
                true,
            ),
            ("", RetryHistory::default(), Some(u64::MAX), noon(0), false),
            ("", RetryHistory::default(), Some(NOON + 59), noon(0), false),
            ("", returned.clone(), Some(NOON), noon(-99), false),
            (created, returned, None, noon(-99), true),
            (
                r#","created_at":"2026-11-21T12:05:00Z""#,
                RetryHistory::default(),
                None,
                noon(0),
                true,
            ),
        ] {
            let terms = planned(members, &history, timestamp).unwrap().terms;
            assert_eq!(terms.created_at, at, "{members} {timestamp:?}");
            assert_eq!(
                !terms.warnings.is_empty(),
                warned,
                "{members} {timestamp:?}"
            );
        }
    }

    #[test]
    fn what_is_first_seen_while_clocks_disagree_lives_on_when_they_agree_again() {
        let body = body("");
        let event = decode(&body).unwrap();
        let day = 86_400;
        let planned = |earliest, latest| {
            let clocks = at(earliest, latest);
            plan(
                &event,
                &App::for_tests("shop"),
                &RetryHistory::default(),
                None,
                &SETTINGS,
                clocks,
            )
            .unwrap()
        };
        for (earliest, latest) in [(-day, 0), (0, day)] {
            let Plan { terms, step } = planned(earliest, latest);
            assert_eq!(terms.created_at, noon(latest));
            assert_eq!(step, NOW);
        }
    }

    #[test]
    fn a_ttl_beyond_four_weeks_is_clamped_with_a_warning() {
        let terms = planned(r#","ttl":1099511627776"#, &RetryHistory::default(), None)
            .unwrap()
            .terms;
        assert_eq!(terms.deadline.at, noon(TTL_LIMIT.into()));
        assert_eq!(terms.warnings, [Warning::TtlClamped(1 << 40)]);
        let terms = planned(r#","ttl":2419200"#, &RetryHistory::default(), None)
            .unwrap()
            .terms;
        assert_eq!(terms.warnings, []);
    }

    #[test]
    fn what_has_run_out_of_time_expires() {
        let expired = |reason, detail: &str| Step::Expire {
            reason,
            detail: detail.into(),
        };
        let waited = |waiting| RetryHistory {
            created_at: Some(noon(-100)),
            not_before: Some(noon(500)),
            waiting: Some(waiting),
            ..RetryHistory::default()
        };
        for (members, history, reason, detail) in [
            (
                r#","ttl":60,"created_at":"2026-11-21T11:59:00Z""#,
                RetryHistory::default(),
                Reason::TtlElapsed,
                "its time ran out before it was taken from the queue",
            ),
            (
                r#","ttl":0,"created_at":"2026-11-21T11:59:30Z""#,
                RetryHistory::default(),
                Reason::TtlElapsed,
                "its time ran out before it was taken from the queue",
            ),
            (
                r#","expires_at":"2026-11-21T12:00:00Z""#,
                waited(Waiting::Busy),
                Reason::ExpiresAtPassed,
                "its time ran out while it waited for room to send",
            ),
            (
                r#","ttl":100"#,
                waited(Waiting::Retry(Reason::Throttled)),
                Reason::TtlElapsed,
                "its time ran out before it could be tried again (throttled)",
            ),
        ] {
            assert_eq!(
                step(members, &history),
                expired(reason, detail),
                "{members}"
            );
        }
        let alive = r#","ttl":0,"created_at":"2026-11-21T11:59:31Z""#;
        assert_eq!(step(alive, &RetryHistory::default()), NOW);
    }

    #[test]
    fn a_scheduled_event_waits_until_it_is_due() {
        let wait = |seconds, waiting| Step::Wait {
            after: Duration::from_secs(seconds),
            until: noon(i64::try_from(seconds).unwrap()),
            waiting,
        };
        let deliver_at = r#","deliver_at":"2026-11-21T12:10:00Z","ttl":60"#;
        assert_eq!(
            step(deliver_at, &RetryHistory::default()),
            wait(600, Waiting::Scheduled)
        );
        let plan = planned(deliver_at, &RetryHistory::default(), None).unwrap();
        assert_eq!(plan.terms.deadline.at, noon(660));
        assert_eq!(
            step(
                r#","deliver_at":"2026-11-21T12:00:00.900Z""#,
                &RetryHistory::default()
            ),
            Step::Push {
                hold: Duration::from_millis(900)
            }
        );
        assert_eq!(
            step(
                r#","deliver_at":"2026-11-21T11:00:00Z""#,
                &RetryHistory::default()
            ),
            NOW
        );
        let again = RetryHistory {
            not_before: Some(noon(30)),
            waiting: Some(Waiting::Retry(Reason::Timeout)),
            ..RetryHistory::default()
        };
        assert_eq!(step("", &again), wait(30, Waiting::Retry(Reason::Timeout)));
    }

    #[test]
    fn a_wait_that_a_wrong_clock_wrote_ends_when_the_clock_is_right() {
        const DAY: i64 = 24 * 60 * 60;
        let waited = |days: i64, waiting| RetryHistory {
            created_at: Some(noon(days * DAY - 60)),
            not_before: Some(noon(days * DAY + 5)),
            waiting: Some(waiting),
            ..RetryHistory::default()
        };
        for waiting in [Waiting::Busy, Waiting::Retry(Reason::Timeout)] {
            for days in [1, 2, 20, 300] {
                let plan = planned("", &waited(days, waiting), None).unwrap();
                assert_eq!(plan.step, NOW, "{days} days ahead");
                assert_eq!(plan.terms.deadline.at, noon(DAY));
            }
        }
        // A shorter one may be meant; it does not outlast the deadline.
        let meant = RetryHistory {
            not_before: Some(noon(DAY)),
            ..waited(0, Waiting::Busy)
        };
        let step = step(r#","ttl":600"#, &meant);
        let (after, until) = (Duration::from_secs(540), noon(540));
        let waiting = Waiting::Busy;
        assert_eq!(
            step,
            Step::Wait {
                after,
                until,
                waiting
            }
        );
    }

    /// From 13:00 in a zone where it is noon.
    const CLOSED: &str = r#","deliver_between":{"from":"13:00","to":"14:00","zone":"UTC"}"#;

    #[test]
    fn an_event_outside_its_delivery_hours_waits_whole_until_they_begin() {
        let first = RetryHistory::default();
        let until = |seconds| Step::Wait {
            after: Duration::from_secs(seconds),
            until: noon(3600),
            waiting: Waiting::QuietHours,
        };
        assert_eq!(step(CLOSED, &first), until(3600));
        let open = CLOSED.replace("13:00", "11:00");
        assert_eq!(step(&open, &first), NOW);
        let many = |own: &str| -> Bytes {
            let recipients = vec!["{}"; 60].join(",");
            format!(r#"{{"recipients":[{recipients},{{{own}}}]{CLOSED}}}"#).into()
        };
        let step = |body: &Bytes| {
            let (event, app) = (decode(body).unwrap(), App::for_tests("shop"));
            plan(&event, &app, &first, None, &SETTINGS, at(0, 0))
                .unwrap()
                .step
        };
        assert_eq!(step(&many("")), until(3600));
        // One of its recipients may be pushed to now.
        let own = open.trim_start_matches(',');
        assert!(matches!(step(&many(own)), Step::Split(_)));
    }

    #[test]
    fn an_event_whose_delivery_hours_begin_too_late_expires_at_once() {
        let members = format!(r#"{CLOSED},"ttl":3600"#);
        let Step::Expire { reason, detail } = step(&members, &RetryHistory::default()) else {
            panic!("it does not expire");
        };
        assert_eq!(
            (reason, &*detail),
            (Reason::TtlElapsed, quiet_hours::OUTLASTS)
        );
    }

    #[test]
    fn what_comes_back_early_or_late_keeps_to_its_delivery_hours() {
        let spread = RetryHistory {
            not_before: Some(noon(3700)),
            waiting: Some(Waiting::QuietHours),
            ..RetryHistory::default()
        };
        let early = step(CLOSED, &spread);
        let (after, until) = (Duration::from_secs(3700), noon(3700));
        let waiting = Waiting::QuietHours;
        assert_eq!(
            early,
            Step::Wait {
                after,
                until,
                waiting
            }
        );
        let late = CLOSED.replace("13:00", "10:00").replace("14:00", "11:00");
        let missed = RetryHistory {
            not_before: Some(noon(-5400)),
            ..spread
        };
        let Step::Wait { after, .. } = step(&format!(r#"{late},"ttl":172800"#), &missed) else {
            panic!("it does not wait");
        };
        assert_eq!(after, Duration::from_hours(22));
    }

    #[test]
    fn a_schedule_that_cannot_be_kept_is_refused() {
        for (members, detail) in [
            (
                r#","deliver_at":"2026-12-21T12:00:01Z""#,
                "deliver_at: expected a time at most 30 days ahead",
            ),
            (
                r#","deliver_at":"2026-11-21T13:00:00Z","expires_at":"2026-11-21T13:00:00Z""#,
                "expires_at: expected a time after deliver_at; nothing could ever be sent",
            ),
        ] {
            let refusal = planned(members, &RetryHistory::default(), None).unwrap_err();
            assert_eq!(refusal.reason, Reason::InvalidSchedule);
            assert_eq!(&*refusal.detail, detail);
        }
        assert!(
            planned(
                r#","deliver_at":"2026-12-21T12:00:00Z""#,
                &RetryHistory::default(),
                None
            )
            .is_ok()
        );
    }

    #[test]
    fn a_large_event_is_split_once_and_only_when_it_is_due() {
        let many = |count: usize, members: &str| -> Bytes {
            format!(
                r#"{{"recipients":[{}]{members}}}"#,
                vec!["{}"; count].join(",")
            )
            .into()
        };
        let step = |body: &Bytes, history: &RetryHistory| {
            let event = decode(body).unwrap();
            plan(
                &event,
                &App::for_tests("shop"),
                history,
                None,
                &SETTINGS,
                at(0, 0),
            )
            .unwrap()
            .step
        };
        let first = RetryHistory::default();
        assert_eq!(step(&many(50, ""), &first), NOW);
        let Step::Split(split) = step(&many(101, ""), &first) else {
            panic!("not split");
        };
        assert_eq!(
            split
                .now
                .iter()
                .map(|part| part.recipients.len())
                .collect::<Vec<_>>(),
            [50, 50, 1]
        );
        let chunk = RetryHistory {
            chunk: Some(Chunk { n: 1, of: 3 }),
            ..RetryHistory::default()
        };
        assert_eq!(step(&many(101, ""), &chunk), NOW);
        let scheduled = many(101, r#","deliver_at":"2026-11-21T12:10:00Z""#);
        assert!(matches!(step(&scheduled, &first), Step::Wait { .. }));
        let expired = many(101, r#","expires_at":"2026-11-21T11:00:00Z""#);
        assert!(matches!(step(&expired, &first), Step::Split(_)));
        assert!(matches!(step(&expired, &chunk), Step::Expire { .. }));
    }

    #[test]
    fn an_event_is_named_by_the_first_who_has_a_name_for_it() {
        let own = EventId::parse("own");
        let earlier = RetryHistory {
            event_id: EventId::parse("earlier"),
            ..RetryHistory::default()
        };
        let fresh = RetryHistory::default();
        let long = "x".repeat(129);
        let name = |own, history, message_id, stamp, body: &str| {
            event_id(own, history, message_id, stamp, body.as_bytes()).to_string()
        };
        assert_eq!(name(own.as_ref(), &earlier, Some("mid"), None, ""), "own");
        assert_eq!(name(None, &earlier, Some("mid"), None, ""), "earlier");
        assert_eq!(name(None, &fresh, Some("mid"), None, ""), "mid");
        let derived = name(None, &fresh, Some(&long), Some(5), "body");
        assert_eq!(derived.len(), 32);
        assert_eq!(derived, name(None, &fresh, None, Some(5), "body"));
        assert_ne!(derived, name(None, &fresh, None, Some(6), "body"));
        assert_ne!(derived, name(None, &fresh, None, Some(5), "other"));
    }
}
