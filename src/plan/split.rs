//! A large event in parts, so that no message of many recipients holds up the others.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::wire::event::Event;

/// One part of an event that is split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The places of its recipients, ascending.
    pub recipients: Vec<usize>,
    /// The first of them, if they are an unbroken run.
    pub first: Option<usize>,
}

/// Divides the recipients of an event into parts of at most `size` different endpoints.
///
/// Recipients with the same endpoint travel in the same part, where the second is found out.
pub(super) fn parts(event: &Event<'_>, size: usize) -> Vec<Part> {
    let mut parts: Vec<Vec<usize>> = Vec::with_capacity(event.recipient_count() / size.max(1) + 1);
    let mut part_of: HashMap<Cow<'_, str>, usize> = HashMap::with_capacity(event.recipient_count());
    let mut different = size;
    for raw in event.recipients() {
        let endpoint = raw.endpoint();
        let known = endpoint.as_ref().and_then(|text| part_of.get(text));
        if let Some(part) = known.and_then(|part| parts.get_mut(*part)) {
            part.push(raw.index);
            continue;
        }
        if different >= size {
            parts.push(Vec::with_capacity(size));
            different = 0;
        }
        different += 1;
        if let Some(endpoint) = endpoint {
            part_of.insert(endpoint, parts.len() - 1);
        }
        if let Some(part) = parts.last_mut() {
            part.push(raw.index);
        }
    }
    parts.into_iter().map(Part::of).collect()
}

impl Part {
    fn of(recipients: Vec<usize>) -> Self {
        let is_run = recipients.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        Self {
            first: recipients.first().copied().filter(|_| is_run),
            recipients,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::event::decode;

    fn event(endpoints: &[u8]) -> Bytes {
        let recipients: Vec<String> = endpoints
            .iter()
            .map(|endpoint| match endpoint {
                0 => "{}".to_owned(),
                n => format!(r#"{{"subscription":{{"endpoint":"https://a.example/{n}"}}}}"#),
            })
            .collect();
        format!(r#"{{"recipients":[{}]}}"#, recipients.join(",")).into()
    }

    #[test]
    fn equal_endpoints_travel_together() {
        let body = event(&[1, 2, 3, 1, 0, 0, 4]);
        let parts = parts(&decode(&body).unwrap(), 2);
        let part = |recipients: &[usize], first| Part {
            recipients: recipients.to_vec(),
            first,
        };
        assert_eq!(
            parts,
            [
                part(&[0, 1, 3], None),
                part(&[2, 4], None),
                part(&[5, 6], Some(5)),
            ]
        );
    }

    proptest! {
        #[test]
        fn every_recipient_is_in_exactly_one_part(
            endpoints in prop::collection::vec(0..30u8, 1..60),
            size in 1..10usize,
        ) {
            let body = event(&endpoints);
            let parts = parts(&decode(&body).unwrap(), size);
            let mut places: Vec<usize> =
                parts.iter().flat_map(|part| part.recipients.clone()).collect();
            places.sort_unstable();
            prop_assert_eq!(places, (0..endpoints.len()).collect::<Vec<_>>());
            let mut home = HashMap::new();
            for (n, part) in parts.iter().enumerate() {
                prop_assert!(part.recipients.is_sorted());
                for place in part.recipients.iter().filter(|place| endpoints[**place] > 0) {
                    prop_assert_eq!(*home.entry(endpoints[*place]).or_insert(n), n);
                }
            }
        }
    }
}
