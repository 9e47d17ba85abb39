//! Services: which of several ordered rules a packet's protocol and port meet first, as longest matches.

use crate::{
    diagnostics::Spanned,
    model::{PortRange, Protocol, Service},
};
use std::{cmp::Reverse, collections::BinaryHeap};
use vpc_common::{Be32, policy::RuleKey};

/// Bits of a service: the protocol, then the destination port, or type and code of ICMP.
const BITS: u32 = 24;
const END: u32 = 1 << BITS;

/// A range of services, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Services {
    first: u32,
    last: u32,
}

impl Services {
    /// Every service.
    pub const ALL: Self = Self { first: 0, last: END - 1 };

    /// Every port of a protocol.
    pub fn of(protocol: u8) -> Self {
        Self::ports(protocol, 0, u16::MAX)
    }

    /// The ports from `first` to `last` of a protocol.
    pub fn ports(protocol: u8, first: u16, last: u16) -> Self {
        let protocol = u32::from(protocol) << 16;
        Self { first: protocol | u32::from(first), last: protocol | u32::from(last) }
    }

    /// Whether a packet's service is in the range.
    #[cfg(test)]
    pub fn contains(self, protocol: u8, port: u16) -> bool {
        (self.first..=self.last).contains(&(u32::from(protocol) << 16 | u32::from(port)))
    }

    /// How many prefixes it takes to write the range.
    pub fn prefixes(self) -> usize {
        let (mut at, mut count) = (self.first, 0);
        while at <= self.last {
            let mut size = if at == 0 { END } else { 1 << at.trailing_zeros() };
            while at + (size - 1) > self.last {
                size >>= 1;
            }
            at += size;
            count += 1;
        }
        count
    }
}

/// The services that a rule is about.
pub fn of(service: &Service<'_>) -> Vec<Services> {
    let Protocol::Number(number) = service.protocol.value else { return vec![Services::ALL] };
    let code = service.icmp_code.map(|code| code.value.0);
    match service.icmp_type {
        // A valid rule names a type that its protocol has.
        Some(icmp_type) => {
            let icmp_type = icmp_type.value.number(service.protocol.value);
            icmp_type.map(|icmp_type| icmp(number, icmp_type, code)).into_iter().collect()
        }
        None if service.ports.is_empty() => vec![Services::of(number)],
        None => {
            let ports = |range: &Spanned<PortRange>| Services::ports(number, range.value.first, range.value.last);
            service.ports.iter().map(ports).collect()
        }
    }
}

/// One type of ICMP, with one code or all.
fn icmp(protocol: u8, icmp_type: u8, code: Option<u8>) -> Services {
    let first = u16::from_be_bytes([icmp_type, code.unwrap_or(u8::MIN)]);
    Services::ports(protocol, first, u16::from_be_bytes([icmp_type, code.unwrap_or(u8::MAX)]))
}

/// Services whose first bits agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct Prefix {
    bits: u32,
    len: u32,
}

impl Prefix {
    /// Length of the prefix in a [`RuleKey`].
    pub fn key_len(self) -> u32 {
        RuleKey::ALL_SERVICES + self.len
    }

    /// The bits as they stand in a [`RuleKey`].
    pub fn service(self) -> Be32 {
        Be32::new(self.bits << (u32::BITS - BITS))
    }

    #[cfg(test)]
    fn contains(self, service: u32) -> bool {
        (service ^ self.bits).checked_shr(BITS - self.len).unwrap_or_default() == 0
    }
}

/// A number of a rule; of two rules the one with the lower number is met first.
pub type Rank = u32;

/// The fewest prefixes whose longest match is, for every single service, the lowest rank whose ranges contain it. A
/// service in no range matches none.
pub fn resolve(ranges: impl IntoIterator<Item = (Services, Rank)>) -> Vec<(Prefix, Rank)> {
    let segments = segments(ranges.into_iter().collect());
    let mut prefixes = Vec::new();
    if segments.iter().any(|segment| segment.rank.is_some()) {
        let root = Node::new(&segments, Prefix { bits: 0, len: 0 });
        root.write(None, &mut prefixes);
    }
    prefixes
}

/// From here to the next segment every service meets the same rule first.
#[derive(Clone, Copy, Debug)]
struct Segment {
    start: u32,
    rank: Option<Rank>,
}

/// One sweep over all starts and ends.
fn segments(mut ranges: Vec<(Services, Rank)>) -> Vec<Segment> {
    ranges.sort_unstable_by_key(|(range, rank)| (range.first, *rank));
    let mut starts: Vec<u32> = ranges.iter().flat_map(|(range, _)| [range.first, range.last + 1]).chain([0]).collect();
    starts.sort_unstable();
    starts.dedup();
    let mut ranges = ranges.into_iter().peekable();
    let mut open: BinaryHeap<Reverse<(Rank, u32)>> = BinaryHeap::new();
    let mut segments: Vec<Segment> = Vec::with_capacity(starts.len());
    for start in starts.into_iter().filter(|start| *start < END) {
        while let Some((range, rank)) = ranges.next_if(|(range, _)| range.first == start) {
            open.push(Reverse((rank, range.last)));
        }
        while open.peek().is_some_and(|Reverse((_, last))| *last < start) {
            open.pop();
        }
        let rank = open.peek().map(|Reverse((rank, _))| *rank);
        if segments.last().is_none_or(|before| before.rank != rank) {
            segments.push(Segment { start, rank });
        }
    }
    segments
}

/// A node of the binary trie over all services, after R. Draves et al., "Constructing optimal IP routing tables"
/// (INFOCOM 1999). What differs: nothing can be written over a service that no rule is for, since there is no entry
/// that takes a match back.
struct Node {
    prefix: Prefix,
    /// The ranks that, written here, need the fewest prefixes below; none where a part matches no rule.
    best: Vec<Rank>,
    children: Option<Box<[Node; 2]>>,
}

impl Node {
    /// `segments` are those that have a part in the prefix.
    fn new(segments: &[Segment], prefix: Prefix) -> Self {
        if let [only] = segments {
            return Self { prefix, best: only.rank.into_iter().collect(), children: None };
        }
        let len = prefix.len + 1;
        let middle = prefix.bits | 1 << (BITS - len);
        let split = segments.partition_point(|segment| segment.start < middle);
        // The last segment that starts before the middle may reach over it.
        let over = split - usize::from(segments.get(split).is_none_or(|segment| segment.start != middle));
        let low = Self::new(&segments[..split], Prefix { bits: prefix.bits, len });
        let high = Self::new(&segments[over..], Prefix { bits: middle, len });
        Self { prefix, best: merge(&low.best, &high.best), children: Some(Box::new([low, high])) }
    }

    /// `inherited` is what the longest prefix above says.
    fn write(&self, inherited: Option<Rank>, prefixes: &mut Vec<(Prefix, Rank)>) {
        let kept = inherited.filter(|rank| self.best.binary_search(rank).is_ok());
        let says = kept.or_else(|| self.best.first().copied());
        if let Some(rank) = says.filter(|_| says != inherited) {
            prefixes.push((self.prefix, rank));
        }
        for child in self.children.iter().flat_map(|children| children.iter()) {
            child.write(says, prefixes);
        }
    }
}

/// What both sides want; if they agree on nothing, what either wants. Both are sorted.
fn merge(low: &[Rank], high: &[Rank]) -> Vec<Rank> {
    if low.is_empty() || high.is_empty() {
        return Vec::new();
    }
    let both: Vec<Rank> = low.iter().filter(|rank| high.binary_search(rank).is_ok()).copied().collect();
    if !both.is_empty() {
        return both;
    }
    let mut either = [low, high].concat();
    either.sort_unstable();
    either
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(ranges: &[(Services, Rank)]) -> Vec<(u32, u32, Rank)> {
        let prefixes = resolve(ranges.iter().copied());
        prefixes.iter().map(|(prefix, rank)| (prefix.key_len(), prefix.service().get(), *rank)).collect()
    }

    #[test]
    fn lengths_are_those_of_the_datapath() {
        assert_eq!(shown(&[(Services::ALL, 1)]), [(RuleKey::ALL_SERVICES, 0, 1)]);
        assert_eq!(shown(&[(Services::of(6), 1)]), [(RuleKey::ALL_PORTS, 6 << 24, 1)]);
        let https = vpc_common::policy::service(6, 443);
        assert_eq!(shown(&[(Services::ports(6, 443, 443), 1)]), [(RuleKey::WHOLE, https.get(), 1)]);
        assert_eq!(shown(&[]), []);
    }

    #[test]
    fn a_hole_is_written_over_what_is_around_it() {
        let denied = vpc_common::policy::service(6, 22).get();
        let ranges = [(Services::ports(6, 22, 22), 1), (Services::of(6), 2), (Services::ALL, 3)];
        assert_eq!(shown(&ranges), [(64, 0, 3), (72, 6 << 24, 2), (88, denied, 1)]);
    }

    #[test]
    fn ranges_are_counted_in_prefixes() {
        assert_eq!(Services::ALL.prefixes(), 1);
        assert_eq!(Services::of(17).prefixes(), 1);
        assert_eq!(Services::ports(6, 8_000, 8_080).prefixes(), 3);
        assert_eq!(Services::ports(6, 1, 65_534).prefixes(), 30);
    }

    fn naive(ranges: &[(Services, Rank)], service: u32) -> Option<Rank> {
        let matching = ranges.iter().filter(|(range, _)| (range.first..=range.last).contains(&service));
        matching.map(|(_, rank)| *rank).min()
    }

    fn any_services() -> impl Strategy<Value = Services> {
        let protocol = prop_oneof![Just(6u8), Just(17), Just(1), any::<u8>()];
        let port = || prop_oneof![0..20u16, any::<u16>(), Just(u16::MAX)];
        prop_oneof![
            1 => Just(Services::ALL),
            2 => protocol.clone().prop_map(Services::of),
            8 => (protocol, port(), port()).prop_map(|(p, a, b)| Services::ports(p, a.min(b), a.max(b))),
        ]
    }

    proptest! {
        #[test]
        fn the_longest_match_is_the_first_rule(
            ranges in prop::collection::vec((any_services(), 0..12u32), 0..20),
            others in prop::collection::vec(0..END, 20),
        ) {
            let prefixes = resolve(ranges.iter().copied());
            let edges = ranges.iter().flat_map(|(range, _)| {
                [range.first.wrapping_sub(1), range.first, range.last, range.last + 1]
            });
            for service in edges.chain(others).filter(|service| *service < END) {
                let longest = prefixes.iter().filter(|(prefix, _)| prefix.contains(service));
                let longest = longest.max_by_key(|(prefix, _)| prefix.len).map(|(_, rank)| *rank);
                prop_assert_eq!(longest, naive(&ranges, service), "{:#x} of {:?} in {:?}", service, ranges, prefixes);
            }
            let bound: usize = ranges.iter().map(|(range, _)| range.prefixes()).sum();
            prop_assert!(prefixes.len() <= bound, "{} of at most {}", prefixes.len(), bound);
        }
    }
}
