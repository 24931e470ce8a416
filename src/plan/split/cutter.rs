//! How the recipients of an event are divided: by push service, by number, and by what may come of
//! them.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::subscription::Endpoint;
use crate::wire::event::Event;

/// About the most bytes that may come of one chunk, in results and in copies that wait.
pub(super) const CHUNK_WEIGHT: usize = 128 << 10;

/// About how many bytes the result of a recipient has besides what it repeats.
const RESULT_WEIGHT: usize = 1 << 10;

/// Returns about how many bytes may come of a recipient: a result, or a copy of its own.
pub(super) fn weight_of(recipient: usize, frame: usize) -> usize {
    recipient + frame + RESULT_WEIGHT
}

/// Recipients with something in common, which are not mixed with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Group<'a> {
    /// Many at one push service.
    Origin(&'a str),
    /// Few at each of several push services, which fill one chunk.
    Few {
        /// Whether these are large push services.
        listed: bool,
        /// The number of the chunk among those of its kind.
        chunk: usize,
    },
    /// More with the same endpoint than a chunk has room for.
    Repeats,
}

/// One part while it is made.
#[derive(Default)]
pub(super) struct Cut {
    pub(super) recipients: Vec<usize>,
    /// How many of them do not repeat an endpoint.
    different: usize,
    /// How many bytes they take in the body.
    pub(super) bytes: usize,
    weight: usize,
    /// Whether all of them repeat an endpoint.
    pub(super) repeats: bool,
}

impl Cut {
    fn add(&mut self, index: usize, bytes: usize, frame: usize) {
        self.recipients.push(index);
        self.bytes += bytes + 1;
        self.weight += weight_of(bytes, frame);
    }
}

/// Divides the recipients of an event, in their order.
pub(super) struct Cutter<'a> {
    size: usize,
    frame: usize,
    cuts: Vec<Cut>,
    /// The last cut of each group, and of those of it who have the same delivery hours.
    open: HashMap<Together<'a>, usize>,
    /// The cut of each endpoint with each payload.
    cut_of: HashMap<Target<'a>, usize>,
}

/// A group, and the text of the delivery hours that enough of its recipients have.
type Together<'a> = (Group<'a>, Option<&'a str>);

/// So many recipients of a group with the same delivery hours are not mixed with others: while they wait,
/// each of their chunks is one message.
const SAME_HOURS: usize = 8;

/// An endpoint, and the text of a payload of the recipient's own.
type Target<'a> = (&'a str, Option<&'a str>);

impl<'a> Cutter<'a> {
    /// Cuts an event into chunks of at most `size` different endpoints.
    pub(super) fn cut(event: &Event<'_>, size: usize) -> Vec<Cut> {
        let endpoints: Vec<Option<Cow<'_, str>>> =
            event.recipients().map(|raw| raw.endpoint()).collect();
        let groups = groups_of(endpoints.iter().flatten(), size);
        let mut cutter = Cutter {
            size,
            frame: event.frame_len(),
            cuts: Vec::with_capacity(endpoints.len() / size + 1),
            open: HashMap::new(),
            cut_of: HashMap::with_capacity(endpoints.len()),
        };
        let together = together(event, &endpoints, &groups);
        for ((raw, endpoint), together) in event.recipients().zip(&endpoints).zip(together) {
            let target = endpoint
                .as_deref()
                .map(|endpoint| (endpoint, raw.payload()));
            cutter.add(raw.index, raw.text_len(), target, together);
        }
        cutter.cuts
    }

    fn add(
        &mut self,
        index: usize,
        bytes: usize,
        target: Option<Target<'a>>,
        together: Together<'a>,
    ) {
        let known = target.and_then(|it| self.cut_of.get(&it).copied());
        let Some(known) = known else {
            let cut = self.with_room(together, bytes);
            self.cuts[cut].different += 1;
            self.cuts[cut].add(index, bytes, self.frame);
            if let Some(target) = target {
                self.cut_of.insert(target, cut);
            }
            return;
        };
        if self.has_room_to_repeat(known, bytes) {
            self.cuts[known].add(index, bytes, self.frame);
            return;
        }
        let cut = self.with_room((Group::Repeats, None), bytes);
        self.cuts[cut].different += 1;
        self.cuts[cut].repeats = true;
        self.cuts[cut].add(index, bytes, self.frame);
    }

    /// Returns the last cut of those who travel together if one more recipient fits, else a new one.
    fn with_room(&mut self, together: Together<'a>, bytes: usize) -> usize {
        let open = self.open.get(&together).copied();
        let open = open.filter(|cut| self.has_room(*cut, bytes));
        open.unwrap_or_else(|| {
            self.cuts.push(Cut::default());
            self.open.insert(together, self.cuts.len() - 1);
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

/// Finds for each recipient whom it travels with.
fn together<'a>(
    event: &Event<'a>,
    endpoints: &[Option<Cow<'_, str>>],
    groups: &HashMap<&'a str, Group<'a>>,
) -> Vec<Together<'a>> {
    let mut group = Group::Few {
        listed: false,
        chunk: 0,
    };
    let mut counts: HashMap<Together<'a>, usize> = HashMap::new();
    let mut found: Vec<Together<'a>> = Vec::with_capacity(endpoints.len());
    for (raw, endpoint) in event.recipients().zip(endpoints) {
        // One without an endpoint ends at once, and breaks no run.
        if let Some(of_origin) = endpoint.as_deref().and_then(|it| groups.get(origin_of(it))) {
            group = *of_origin;
        }
        let together = (group, raw.delivery_hours());
        *counts.entry(together).or_default() += 1;
        found.push(together);
    }
    for together in &mut found {
        if counts[together] < SAME_HOURS {
            together.1 = None;
        }
    }
    found
}

/// Finds the group of each origin; one whose recipients fill half a chunk of `size` is a group of its
/// own.
fn groups_of<'a>(
    endpoints: impl Iterator<Item = &'a Cow<'a, str>>,
    size: usize,
) -> HashMap<&'a str, Group<'a>> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let mut firsts = Vec::new();
    for endpoint in endpoints {
        let count = counts.entry(origin_of(endpoint)).or_default();
        if *count == 0 {
            firsts.push(&**endpoint);
        }
        *count += 1;
    }
    // For each kind, the number of the chunk that is filled, and how many recipients it has.
    let mut filled = [(0, 0); 2];
    let group = |endpoint: &'a str| {
        let origin = origin_of(endpoint);
        let count = counts[origin];
        if count >= size.div_ceil(2) {
            return (origin, Group::Origin(origin));
        }
        let listed = Endpoint::parse(endpoint).is_ok_and(|endpoint| endpoint.is_listed());
        let (chunk, sum) = &mut filled[usize::from(listed)];
        if *sum + count > size {
            (*chunk, *sum) = (*chunk + 1, 0);
        }
        *sum += count;
        let chunk = *chunk;
        (origin, Group::Few { listed, chunk })
    };
    firsts.into_iter().map(group).collect()
}

/// Returns scheme, host and port of an endpoint as they were given.
pub(super) fn origin_of(endpoint: &str) -> &str {
    let start = endpoint.find("://").map_or(0, |at| at + 3);
    let end = endpoint[start..].find(['/', '?', '#']);
    end.map_or(endpoint, |end| &endpoint[..start + end])
}
