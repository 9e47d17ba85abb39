//! Numbers made from names and content, the same on every node and after every restart.

use crate::model::File;
use siphasher::sip::SipHasher24;
use std::collections::BTreeSet;

/// The uid of a port: SipHash-2-4 of its name's bytes under the zero key.
pub fn port_uid(name: &str) -> u64 {
    SipHasher24::new().hash(name.as_bytes())
}

/// The first 32 bits of a hash of content that are not zero: zero is never an id.
fn id(content: &[u8]) -> u32 {
    SipHasher24::new().hash(content) as u32
}

/// Gives out ids. On a collision the next free number is taken, so the order of asking matters. The last number is never
/// an id either: see [`vpc_common::route::RouteKey::OUTSIDE`].
#[derive(Default)]
pub(crate) struct Ids(BTreeSet<u32>);

impl Ids {
    pub(crate) fn take(&mut self, content: &[u8]) -> u32 {
        self.take_marked(content, 0, false)
    }

    /// The same, of ids of which a bit says whether something is so.
    pub(crate) fn take_marked(&mut self, content: &[u8], bit: u32, is_so: bool) -> u32 {
        let mut number = id(content);
        loop {
            let id = if is_so { number | bit } else { number & !bit };
            if id != 0 && id != u32::MAX && self.0.insert(id) {
                return id;
            }
            number = number.wrapping_add(1);
        }
    }
}

/// Ids of all subnets, parallel to the file's list: hashes of their names. Collisions are resolved in the order of
/// names, over the whole topology, so that all nodes agree.
pub(crate) fn subnet_ids(file: &File) -> Vec<u32> {
    let mut order: Vec<usize> = (0..file.subnets.len()).collect();
    order.sort_by_key(|index| &*file.subnets[*index].name.value);
    let mut taken = Ids::default();
    let mut ids = vec![0; file.subnets.len()];
    for index in order {
        ids[index] = taken.take(file.subnets[index].name.value.as_bytes());
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stay_what_they_are() {
        // Slots and flood lists of a running node hang on these.
        assert_eq!(port_uid("web-1"), 3_746_563_995_658_647_704);
        assert_eq!(Ids::default().take(b"public"), 555_924_970);
    }

    #[test]
    fn marked_ids_are_all_different() {
        let mut ids = Ids::default();
        let mark = 1 << 31;
        let mut marked = |is_so| ids.take_marked(b"public", mark, is_so);
        let all = [marked(false), marked(true), marked(false), marked(true)];
        assert_eq!(all.map(|id| id & mark != 0), [false, true, false, true]);
        assert_eq!(BTreeSet::from(all).len(), 4);
    }

    #[test]
    fn collisions_take_the_next_number() {
        let mut ids = Ids::default();
        let first = ids.take(b"public");
        assert_eq!(ids.take(b"public"), first + 1);
    }
}
