//! Events of many recipients, cut into chunks.

use std::collections::HashMap;
use std::num::NonZeroU32;

use bytes::Bytes;
use proptest::prelude::*;

use super::cutter::origin_of;
use super::*;
use crate::outcome::Reason;
use crate::wire::event::decode;
use crate::wire::headers::Unsplit;

fn body_of(endpoints: impl IntoIterator<Item = String>, more: &str) -> Bytes {
    let recipient = |endpoint: String| match &*endpoint {
        "" => "{}".to_owned(),
        endpoint => format!(r#"{{"subscription":{{"endpoint":"{endpoint}"}}}}"#),
    };
    let recipients: Vec<_> = endpoints.into_iter().map(recipient).collect();
    format!(r#"{{"recipients":[{}]{more}}}"#, recipients.join(",")).into()
}

fn at(host: &str, n: usize) -> String {
    format!("https://{host}/{n}")
}

fn split_of(body: &Bytes, size: usize) -> Split {
    split(&decode(body).unwrap(), size, &RetryHistory::default(), None).unwrap()
}

fn positions(split: &Split) -> Vec<&[usize]> {
    split.now.iter().map(|part| &*part.recipients).collect()
}

#[test]
fn equal_endpoints_travel_together() {
    let endpoint = |n: &usize| match n {
        0 => String::new(),
        n => at("a.example", *n),
    };
    let body = body_of([1, 2, 3, 1, 0, 0, 4].iter().map(endpoint), "");
    let split = split_of(&body, 2);
    assert_eq!(positions(&split), [&[0, 1, 3][..], &[2, 4], &[5, 6]]);
    let positions: Vec<_> = split
        .now
        .iter()
        .map(|part| part.positions.clone())
        .collect();
    let expected = [&[0, 1, 3][..], &[2, 4], &[5, 6]];
    let expected = expected.map(|it| Some(Positions::of(it.iter().copied())));
    assert_eq!(positions, expected);
    let numbers: Vec<_> = split.now.iter().map(|part| part.number).collect();
    assert_eq!((numbers, split.of), (vec![1, 2, 3], 3));
    assert_eq!(split.later, []);
}

#[test]
fn one_endpoint_over_and_over_does_not_make_a_large_chunk() {
    let body = body_of(vec![at("a.example", 1); 25], "");
    let split = split_of(&body, 5);
    let all = split.now.iter().chain(&split.later);
    let told: Vec<_> = all
        .map(|part| {
            let refusal = part.refusal.as_ref();
            (part.recipients.len(), refusal.map(|it| it.reason))
        })
        .collect();
    let refused = Some(Reason::DuplicateRecipient);
    assert_eq!(told, [(10, None), (5, refused), (5, refused), (5, refused)]);
}

#[test]
fn one_endpoint_with_many_payloads_is_not_taken_for_repeats() {
    let recipient = |n| {
        let endpoint = at("a.example", 1);
        format!(r#"{{"subscription":{{"endpoint":"{endpoint}"}},"payload":"{n}"}}"#)
    };
    let recipients: Vec<_> = (0..25).chain(0..3).map(recipient).collect();
    let body = Bytes::from(format!(r#"{{"recipients":[{}]}}"#, recipients.join(",")));
    let split = split_of(&body, 5);
    assert_eq!(split.later, []);
    assert!(split.now.iter().all(|part| part.refusal.is_none()));
    assert_eq!(positions(&split)[0], [0, 1, 2, 3, 4, 25, 26, 27]);
}

#[test]
fn a_push_service_with_many_recipients_has_chunks_of_its_own() {
    let endpoint = |n| match n % 10 {
        0 => at("slow.example", n),
        // Too few of each to fill half a chunk.
        1 => at(&format!("{}.example", n / 30), n),
        2 if n < 60 => at("web.push.apple.com", n),
        _ => at("fcm.googleapis.com", n),
    };
    let all: Vec<_> = (0..300).map(endpoint).collect();
    let split = split_of(&body_of(all.clone(), ""), 20);
    let hosts = |part: &Part| {
        let hosts = part.recipients.iter().map(|n| match origin_of(&all[*n]) {
            "https://slow.example" => "slow",
            "https://web.push.apple.com" => "apple",
            "https://fcm.googleapis.com" => "fcm",
            _ => "others",
        });
        let mut hosts: Vec<_> = hosts.collect();
        hosts.dedup();
        hosts
    };
    let mut chunks: HashMap<_, Vec<_>> = HashMap::new();
    for part in &split.now {
        for recipient in &part.recipients {
            let chunks = chunks.entry(origin_of(&all[*recipient])).or_default();
            chunks.push(part.number);
        }
    }
    for (origin, mut chunks) in chunks {
        let count = chunks.len();
        chunks.dedup();
        assert!(count >= 10 || chunks.len() == 1, "{origin}: {chunks:?}");
    }
    let mut groups: Vec<_> = split.now.iter().flat_map(hosts).collect();
    assert_eq!(groups.len(), split.now.len(), "none is mixed: {groups:?}");
    groups.sort_unstable();
    groups.dedup();
    assert_eq!(groups, ["apple", "fcm", "others", "slow"]);
    let fewest = 300usize.div_ceil(20);
    assert!(split.now.len() <= fewest + 3, "{}", split.now.len());
}

#[test]
fn ten_thousand_recipients_of_one_push_service_make_as_few_chunks_as_can_be() {
    let token = "x".repeat(200);
    let endpoint = |n| at(&format!("fcm.googleapis.com/fcm/send/{token}"), n);
    let payload = format!(r#","payload":"{}""#, "p".repeat(1000));
    let split = split_of(&body_of((0..10_000).map(endpoint), &payload), 50);
    assert_eq!((split.now.len(), split.later.len()), (200, 0));
}

#[test]
fn a_chunk_is_bounded_by_what_may_come_of_it() {
    let metadata = format!(r#","metadata":{{"m":"{}"}}"#, "m".repeat(4000));
    let few = body_of((0..20).map(|n| at("a.example", n)), &metadata);
    let history = RetryHistory::default();
    assert_eq!(split(&decode(&few).unwrap(), 50, &history, None), None);
    let many = body_of((0..50).map(|n| at("a.example", n)), &metadata);
    let split = split_of(&many, 50);
    let counts: Vec<_> = split.now.iter().map(|it| it.recipients.len()).collect();
    assert_eq!(counts, [25, 25]);
}

#[test]
fn paced_parts_are_due_one_after_the_other_whatever_is_split_later() {
    let payload = format!(r#","payload":"{}""#, r"\u0001".repeat(3900));
    let all = (0..1000).map(|n| at("a.example", n));
    let pace = NonZeroU32::new(10).unwrap();
    let split = split_of(&body_of(all, &payload), 5).paced(pace);
    let due = split.now.iter().map(|part| part.after.as_millis());
    let expected = (0..split.now.len() as u128).map(|n| n * 500);
    assert!(due.eq(expected));
    let rest = split.now.len() as u128 * 500;
    let [later] = &*split.later else {
        panic!("{:?}", split.later);
    };
    assert_eq!(later.after.as_millis(), rest);
}

#[test]
fn recipients_that_are_refused_take_no_time() {
    let body = body_of(vec![at("a.example", 1); 25], "");
    let split = split_of(&body, 5).paced(NonZeroU32::MIN);
    let due: Vec<_> = split.now.iter().map(|part| part.after.as_secs()).collect();
    assert_eq!(due, [0, 10, 10, 10]);
}

#[test]
fn what_would_outweigh_the_event_is_split_later() {
    let payload = format!(r#","payload":"{}""#, r"\u0001".repeat(3900));
    let all: Vec<_> = (0..1000).map(|n| at("a.example", n)).collect();
    let body = body_of(all, &payload);
    let first = split_of(&body, 50);
    let copied = |split: &Split, body: &Bytes| {
        let event = decode(body).unwrap();
        let parts = split.now.iter().map(|part| event.subset(&part.recipients));
        parts.map(|copy| copy.len()).sum::<usize>()
    };
    assert_eq!((first.of, first.now.len()), (200, 4));
    assert!(copied(&first, &body) <= body.len() * 3 / 2);
    let [rest] = &*first.later else {
        panic!("{:?}", first.later);
    };
    assert_eq!(rest.number, 5);
    assert_eq!(rest.positions, Some(Positions::of(20..1000)));
    let body = decode(&body).unwrap().subset(&rest.recipients);
    let history = history_of(rest, first.of);
    let second = split(&decode(&body).unwrap(), 50, &history, None).unwrap();
    let part = &second.now[0];
    assert_eq!((part.number, second.of), (5, 200));
    assert_eq!(part.positions, Some(Positions::of(20..25)));
}

/// Returns what the copy of a part that is split later says of itself.
fn history_of(part: &Part, of: u32) -> RetryHistory {
    RetryHistory {
        unsplit: Some(Unsplit {
            next: part.number,
            of,
        }),
        positions: part.positions.clone(),
        refusal: part.refusal.clone(),
        ..RetryHistory::default()
    }
}

proptest! {
    #[test]
    fn every_recipient_is_in_exactly_one_part(
        endpoints in prop::collection::vec((0..4usize, 0..20usize), 2..80),
        size in 1..10usize,
        payload in 0..4000usize,
    ) {
        let endpoint = |(host, n): &(usize, usize)| match n {
            0 => String::new(),
            n => at(&format!("{host}.example"), *n),
        };
        let all: Vec<_> = endpoints.iter().map(endpoint).collect();
        let payload = format!(r#","payload":"{}""#, "p".repeat(payload));
        let mut left = vec![(
            body_of(all.clone(), &payload),
            (0..all.len()).collect::<Vec<_>>(),
            RetryHistory::default(),
        )];
        let (mut seen, mut pushed) = (Vec::new(), HashMap::new());
        while let Some((body, positions, history)) = left.pop() {
            let event = decode(&body).unwrap();
            let Some(split) = split(&event, size, &history, history.refusal.as_ref()) else {
                prop_assert!(all.len() <= size);
                return Ok(());
            };
            prop_assert!(!split.now.is_empty());
            let again = super::split(&event, size, &history, history.refusal.as_ref());
            prop_assert_eq!(Some(&split), again.as_ref());
            for part in &split.now {
                prop_assert!(part.number <= split.of && part.recipients.is_sorted());
                prop_assert!(part.recipients.len() <= 2 * size);
                for place in part.recipients.iter().map(|index| positions[*index]) {
                    seen.push(place);
                    if part.refusal.is_none() && !all[place].is_empty() {
                        let number = part.number;
                        prop_assert_eq!(*pushed.entry(&all[place]).or_insert(number), number);
                    }
                }
            }
            for part in &split.later {
                let positions = part.recipients.iter().map(|index| positions[*index]);
                let history = history_of(part, split.of);
                left.push((event.subset(&part.recipients), positions.collect(), history));
            }
        }
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..all.len()).collect::<Vec<_>>());
    }
}
