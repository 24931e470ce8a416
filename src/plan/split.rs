//! A large event in chunks, so that no message of many recipients holds up the others.
//!
//! Every chunk repeats what the event says beside its recipients, and every result repeats its
//! metadata. So a chunk is bounded by what may come of it and not only by its recipients, and of an
//! event whose chunks are much larger than the event itself only some are cut at once: the rest
//! comes back as one message.
//!
//! A delivery is held until its slowest recipient is done. So a push service with many recipients
//! gets chunks of its own, and the others do not wait for it. Those with few share chunks: else an
//! event for ten thousand push services would become as many messages.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::outcome::{Reason, Refusal};
use crate::subscription::Endpoint;
use crate::wire::event::Event;
use crate::wire::headers::{Passage, Places};

/// About the most bytes that may come of one chunk, in results and in copies that wait.
const CHUNK_WEIGHT: usize = 128 << 10;

/// About how many bytes the result of a recipient has besides what it repeats.
const RESULT_WEIGHT: usize = 1 << 10;

/// The chunks that an event is split into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// How many chunks the event has in all.
    pub of: u32,
    /// The chunks to publish.
    pub now: Vec<Part>,
    /// What is to be split later, each into chunks from its number on.
    pub later: Vec<Part>,
}

/// Recipients of one event that travel together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number, or that of its first chunk, from 1.
    pub number: u32,
    /// Their places in the body, ascending.
    pub recipients: Vec<usize>,
    /// Their places in the event as it was published, if they are known.
    pub places: Option<Places>,
    /// Why they end without a request.
    pub refusal: Option<Refusal>,
}

/// Splits an event that is too large for one message; `None` if it is not.
///
/// A chunk has at most `size` different endpoints. Recipients with the same endpoint are in the same
/// chunk, where the second is found out; those of which a chunk has enough are refused. `refusal`
/// is why all of them end, if they do.
///
/// The same event is always split in the same way.
#[must_use]
pub fn split(
    event: &Event<'_>,
    size: usize,
    passage: &Passage,
    refusal: Option<&Refusal>,
) -> Option<Split> {
    if passage.chunk.is_some() || (passage.unsplit.is_none() && fits_one_chunk(event, size)) {
        return None;
    }
    let mut cuts = Cutter::cut(event, size.max(1));
    // What is left of an event does not show which endpoints repeat those of its first chunks.
    cuts.sort_by_key(|cut| cut.repeats);
    let published = affordable(event, &cuts);
    let begin = passage.unsplit.unwrap_or_default();
    let part = |(number, cut): (u32, Cut)| {
        let refusal = refusal.cloned().or_else(|| cut.repeats.then(repeated));
        Part::of(number, cut.recipients, passage, refusal)
    };
    let mut now: Vec<Part> = (begin.next..).zip(cuts).map(part).collect();
    let last = now.last().map_or(0, |part| part.number);
    let late = now.split_off(published);
    let (others, repeats): (Vec<_>, Vec<_>) = late
        .into_iter()
        .partition(|part| part.refusal.as_ref() == refusal);
    let later = [others, repeats].into_iter();
    Some(Split {
        of: begin.of.max(last),
        now,
        later: later.filter_map(|late| Part::join(late, passage)).collect(),
    })
}

fn repeated() -> Refusal {
    Refusal {
        reason: Reason::DuplicateRecipient,
        detail: "the event has this endpoint more than once; it is pushed to once".into(),
    }
}

fn fits_one_chunk(event: &Event<'_>, size: usize) -> bool {
    if !event.is_fan_out() {
        return true;
    }
    let frame = event.frame_len();
    let weights = event
        .recipients()
        .map(|raw| weight_of(raw.text_len(), frame));
    event.recipient_count() <= size && weights.sum::<usize>() <= CHUNK_WEIGHT
}

/// Returns about how many bytes may come of a recipient: a result, or a copy of its own.
fn weight_of(recipient: usize, frame: usize) -> usize {
    recipient + frame + RESULT_WEIGHT
}

/// Returns how many chunks may be published at once: at least one, as many as have half as many bytes
/// again as the event, and always as many as are small in all.
fn affordable(event: &Event<'_>, cuts: &[Cut]) -> usize {
    let size = event.body().len();
    let budget = (size + size / 2).max(CHUNK_WEIGHT / 2);
    let frame = event.frame_len();
    let mut sum = 0;
    let within = cuts.iter().take_while(|cut| {
        sum += frame + cut.bytes;
        sum <= budget
    });
    within.count().max(1).min(cuts.len())
}

impl Part {
    fn of(
        number: u32,
        recipients: Vec<usize>,
        passage: &Passage,
        refusal: Option<Refusal>,
    ) -> Self {
        Self {
            number,
            places: passage.places_of(&recipients),
            recipients,
            refusal,
        }
    }

    /// Makes one of several that follow each other.
    fn join(parts: Vec<Self>, passage: &Passage) -> Option<Self> {
        let first = parts.first()?;
        let (number, refusal) = (first.number, first.refusal.clone());
        let recipients = parts.into_iter().flat_map(|part| part.recipients);
        let mut recipients: Vec<_> = recipients.collect();
        recipients.sort_unstable();
        Some(Self::of(number, recipients, passage, refusal))
    }
}

/// Recipients with something in common, which are not mixed with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Group<'a> {
    /// Many at one push service.
    Origin(&'a str),
    /// Few at one of the large push services.
    Listed,
    /// Few at any other.
    Unlisted,
    /// More with the same endpoint than a chunk has room for.
    Repeats,
}

/// One part while it is made.
#[derive(Default)]
struct Cut {
    recipients: Vec<usize>,
    /// How many of them do not repeat an endpoint.
    different: usize,
    /// How many bytes they take in the body.
    bytes: usize,
    weight: usize,
    repeats: bool,
}

impl Cut {
    fn add(&mut self, index: usize, bytes: usize, frame: usize) {
        self.recipients.push(index);
        self.bytes += bytes + 1;
        self.weight += weight_of(bytes, frame);
    }
}

/// Divides the recipients of an event, in their order.
struct Cutter<'a> {
    size: usize,
    frame: usize,
    cuts: Vec<Cut>,
    /// The last cut of each group.
    open: HashMap<Group<'a>, usize>,
    /// The cut of each endpoint.
    cut_of: HashMap<&'a str, usize>,
}

impl<'a> Cutter<'a> {
    fn cut(event: &Event<'_>, size: usize) -> Vec<Cut> {
        let endpoints: Vec<Option<Cow<'_, str>>> =
            event.recipients().map(|raw| raw.endpoint()).collect();
        let groups = groups_of(endpoints.iter().flatten(), size.div_ceil(2));
        let mut cutter = Cutter {
            size,
            frame: event.frame_len(),
            cuts: Vec::with_capacity(endpoints.len() / size + 1),
            open: HashMap::new(),
            cut_of: HashMap::with_capacity(endpoints.len()),
        };
        let mut group = Group::Unlisted;
        for (raw, endpoint) in event.recipients().zip(&endpoints) {
            let endpoint = endpoint.as_deref();
            // One without an endpoint ends at once, and breaks no run.
            if let Some(found) = endpoint.and_then(|it| groups.get(origin_of(it))) {
                group = *found;
            }
            cutter.add(raw.index, raw.text_len(), endpoint, group);
        }
        cutter.cuts
    }

    fn add(&mut self, index: usize, bytes: usize, endpoint: Option<&'a str>, group: Group<'a>) {
        let known = endpoint.and_then(|it| self.cut_of.get(it).copied());
        let Some(known) = known else {
            let cut = self.with_room(group, bytes);
            self.cuts[cut].different += 1;
            self.cuts[cut].add(index, bytes, self.frame);
            if let Some(endpoint) = endpoint {
                self.cut_of.insert(endpoint, cut);
            }
            return;
        };
        if self.has_room_to_repeat(known, bytes) {
            self.cuts[known].add(index, bytes, self.frame);
            return;
        }
        let cut = self.with_room(Group::Repeats, bytes);
        self.cuts[cut].different += 1;
        self.cuts[cut].repeats = true;
        self.cuts[cut].add(index, bytes, self.frame);
    }

    /// Returns the last cut of a group if one more recipient fits, else a new one.
    fn with_room(&mut self, group: Group<'a>, bytes: usize) -> usize {
        let open = self.open.get(&group).copied();
        let open = open.filter(|cut| self.has_room(*cut, bytes));
        open.unwrap_or_else(|| {
            self.cuts.push(Cut::default());
            self.open.insert(group, self.cuts.len() - 1);
            self.cuts.len() - 1
        })
    }

    fn has_room(&self, cut: usize, bytes: usize) -> bool {
        let cut = &self.cuts[cut];
        let weight = cut.weight + weight_of(bytes, self.frame);
        let count = cut.recipients.len();
        cut.different < self.size && count < 2 * self.size && weight <= CHUNK_WEIGHT
    }

    /// Repeats may make a cut twice as large as it is without them.
    fn has_room_to_repeat(&self, cut: usize, bytes: usize) -> bool {
        let cut = &self.cuts[cut];
        let weight = cut.weight + weight_of(bytes, self.frame);
        cut.recipients.len() < 2 * self.size && weight <= 2 * CHUNK_WEIGHT
    }
}

/// Finds the group of each origin; one with at least `many` recipients is a group of its own.
fn groups_of<'a>(
    endpoints: impl Iterator<Item = &'a Cow<'a, str>>,
    many: usize,
) -> HashMap<&'a str, Group<'a>> {
    let mut counts: HashMap<&str, (usize, &str)> = HashMap::new();
    for endpoint in endpoints {
        counts.entry(origin_of(endpoint)).or_insert((0, endpoint)).0 += 1;
    }
    let group = |(origin, (count, endpoint)): (&'a str, (usize, &'a str))| {
        let group = if count >= many {
            Group::Origin(origin)
        } else if Endpoint::parse(endpoint).is_ok_and(|endpoint| endpoint.listed().0) {
            Group::Listed
        } else {
            Group::Unlisted
        };
        (origin, group)
    };
    counts.into_iter().map(group).collect()
}

/// Returns scheme, host and port of an endpoint as they were given.
fn origin_of(endpoint: &str) -> &str {
    let start = endpoint.find("://").map_or(0, |at| at + 3);
    let end = endpoint[start..].find(['/', '?', '#']);
    end.map_or(endpoint, |end| &endpoint[..start + end])
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
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
        split(&decode(body).unwrap(), size, &Passage::default(), None).unwrap()
    }

    fn places(split: &Split) -> Vec<&[usize]> {
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
        assert_eq!(places(&split), [&[0, 1, 3][..], &[2, 4], &[5, 6]]);
        let places: Vec<_> = split.now.iter().map(|part| part.places.clone()).collect();
        let expected = [&[0, 1, 3][..], &[2, 4], &[5, 6]];
        let expected = expected.map(|it| Some(Places::of(it.iter().copied())));
        assert_eq!(places, expected);
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
        let passage = Passage::default();
        assert_eq!(split(&decode(&few).unwrap(), 50, &passage, None), None);
        let many = body_of((0..50).map(|n| at("a.example", n)), &metadata);
        let split = split_of(&many, 50);
        let counts: Vec<_> = split.now.iter().map(|it| it.recipients.len()).collect();
        assert_eq!(counts, [25, 25]);
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
        assert_eq!(rest.places, Some(Places::of(20..1000)));
        let body = decode(&body).unwrap().subset(&rest.recipients);
        let passage = passage_of(rest, first.of);
        let second = split(&decode(&body).unwrap(), 50, &passage, None).unwrap();
        let part = &second.now[0];
        assert_eq!((part.number, second.of), (5, 200));
        assert_eq!(part.places, Some(Places::of(20..25)));
    }

    /// Returns what the copy of a part that is split later says of itself.
    fn passage_of(part: &Part, of: u32) -> Passage {
        Passage {
            unsplit: Some(Unsplit {
                next: part.number,
                of,
            }),
            places: part.places.clone(),
            refusal: part.refusal.clone(),
            ..Passage::default()
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
                Passage::default(),
            )];
            let (mut seen, mut pushed) = (Vec::new(), HashMap::new());
            while let Some((body, places, passage)) = left.pop() {
                let event = decode(&body).unwrap();
                let Some(split) = split(&event, size, &passage, passage.refusal.as_ref()) else {
                    prop_assert!(all.len() <= size);
                    return Ok(());
                };
                prop_assert!(!split.now.is_empty());
                for part in &split.now {
                    prop_assert!(part.number <= split.of && part.recipients.is_sorted());
                    prop_assert!(part.recipients.len() <= 2 * size);
                    for place in part.recipients.iter().map(|index| places[*index]) {
                        seen.push(place);
                        if part.refusal.is_none() && !all[place].is_empty() {
                            let number = part.number;
                            prop_assert_eq!(*pushed.entry(&all[place]).or_insert(number), number);
                        }
                    }
                }
                for part in &split.later {
                    let places = part.recipients.iter().map(|index| places[*index]);
                    let passage = passage_of(part, split.of);
                    left.push((event.subset(&part.recipients), places.collect(), passage));
                }
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..all.len()).collect::<Vec<_>>());
        }
    }
}
