//! The way to every other node: a VTEP record with ready-made headers and resolved next hops.

mod header;
mod share;

use crate::netlink::{
    links::Links,
    neighbours::{Neighbour, NeighbourKey, Neighbours, Permanence},
    routes::Reach,
};
use bytemuck::Zeroable;
use std::net::IpAddr;
use vpc_common::{
    Ip, Mac,
    limits::{OVERHEAD_V4, OVERHEAD_V6},
    node::{Node, flags},
    vtep::{NextHop, Vtep},
};

/// What of the inner TOS is copied out in the uniform model (RFC 2983 §4.1).
const DSCP_AND_ECN: u16 = 0xff;
/// The same in the pipe model: RFC 6040 copies the ECN field in either.
const ECN: u16 = 0x03;

/// Why a way to a VTEP is used or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayState {
    /// It is used.
    Used,
    /// Nobody answers for the next hop's address, or not yet.
    Unresolved,
    /// The uplink is down.
    LinkDown,
    /// The uplink is no Ethernet.
    NotEthernet,
    /// There are more ways than a record has room for.
    Surplus,
}

/// One way to a VTEP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedWay {
    /// The uplink's name; its index where it is gone.
    pub uplink: String,
    /// The next hop's address.
    pub neighbour: IpAddr,
    /// Its MAC, where it is known.
    pub mac: Option<Mac>,
    /// Whether it is used.
    pub state: WayState,
    /// How many of the record's next hops are this one; 0 where it is not used.
    pub entries: u16,
}

/// A VTEP's record, and what an operator wants to know of it.
#[derive(Clone, Debug)]
pub struct Described {
    /// The record.
    pub record: Vtep,
    /// Its ways.
    pub ways: Vec<DescribedWay>,
    /// Neighbours that the kernel should ask for.
    pub unresolved: Vec<NeighbourKey>,
    /// Neighbours that the kernel should confirm from time to time.
    pub learned: Vec<NeighbourKey>,
}

impl Described {
    /// Largest inner layer-3 packet, bytes; none where there is no way.
    pub fn mtu(&self) -> Option<u16> {
        (self.record.next_hop_count > 0).then_some(self.record.mtu)
    }
}

/// Makes the record of a VTEP from what the kernel knows.
pub fn describe(source: &Node, destination: Ip, reach: &Reach, links: &Links, neighbours: &Neighbours) -> Described {
    let overhead = if destination.is_v4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
    let uniform = source.flags & flags::DSCP_UNIFORM != 0;
    let mut record = Vtep {
        overhead: overhead as u16,
        tos_mask: if uniform { DSCP_AND_ECN } else { ECN },
        address: destination,
        ..Vtep::zeroed()
    };
    let (mut ways, mut unresolved, mut learned) = (Vec::new(), Vec::new(), Vec::new());
    let mut usable = Vec::new();
    let mut mtu = reach.mtu.unwrap_or(u32::MAX);
    for way in &reach.ways {
        let uplink = links.values().find(|link| link.index == way.ifindex);
        let key: NeighbourKey = (way.ifindex, way.neighbour);
        let (state, mac) = match (uplink, neighbours.get(&key)) {
            (None, _) => (WayState::LinkDown, None),
            (Some(link), _) if !link.running => (WayState::LinkDown, None),
            (Some(link), _) if link.mac.is_none() => (WayState::NotEthernet, None),
            (_, Some(Neighbour::Usable { mac, .. })) => (WayState::Used, Some(*mac)),
            _ => (WayState::Unresolved, None),
        };
        match (state, neighbours.get(&key)) {
            (WayState::Unresolved, _) => unresolved.push(key),
            (WayState::Used, Some(Neighbour::Usable { permanence: Permanence::Learned, .. })) => learned.push(key),
            _ => {}
        }
        if let (WayState::Used, Some(mac), Some(link)) = (state, mac, uplink) {
            mtu = mtu.min(link.mtu);
            let source = link.mac.unwrap_or_default();
            let next_hop = NextHop { ifindex: way.ifindex, destination: mac, source };
            usable.push(Usable { way: ways.len(), next_hop, weight: way.weight });
        }
        let uplink = uplink.map_or_else(|| format!("#{}", way.ifindex), |link| link.name.clone());
        ways.push(DescribedWay { uplink, neighbour: way.neighbour, mac, state, entries: 0 });
    }
    fill(&mut record, &usable, &mut ways);
    match header::outer(source.vtep.into(), destination.into()) {
        Some(header) => record.header = header,
        None => record.next_hop_count = 0,
    }
    // Where there is no way nothing is too large for it: a sender who was told a size would keep to it for minutes.
    let known = if record.next_hop_count == 0 { u32::MAX } else { mtu.saturating_sub(overhead) };
    record.mtu = u16::try_from(known).unwrap_or(u16::MAX);
    Described { record, ways, unresolved, learned }
}

/// A way that can be used.
struct Usable {
    /// Its position among all ways.
    way: usize,
    next_hop: NextHop,
    weight: u32,
}

/// Divides the room for next hops among the ways that can be used.
fn fill(record: &mut Vtep, usable: &[Usable], ways: &mut [DescribedWay]) {
    let weights: Vec<u32> = usable.iter().map(|usable| usable.weight).collect();
    let mut room = record.next_hops.iter_mut();
    for (usable, entries) in usable.iter().zip(share::entries(&weights)) {
        for next_hop in room.by_ref().take(entries) {
            *next_hop = usable.next_hop;
        }
        let way = &mut ways[usable.way];
        way.entries = entries as u16;
        if entries == 0 {
            way.state = WayState::Surplus;
        }
        record.next_hop_count += way.entries;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{links::Link, routes::Way};

    fn link(index: u32, mtu: u32, running: bool) -> (String, Link) {
        let name = format!("eth{index}");
        let link = Link {
            index,
            name: name.clone(),
            kind: String::new(),
            mtu,
            max_mtu: 0,
            running,
            all_multicast: false,
            mac: Some(Mac::new([2, 0, 0, 0, 0, index as u8])),
            peer: None,
            vxlan: Vec::new(),
        };
        (name, link)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const PEER: Mac = Mac::new([2, 9, 9, 9, 9, 9]);

    fn ways(reach: &[(u32, &str)], links: &[(u32, u32, bool)], known: &[(u32, &str)]) -> Described {
        let equal: Vec<_> = reach.iter().map(|(ifindex, router)| (*ifindex, *router, 1)).collect();
        weighted(&equal, links, known)
    }

    fn weighted(reach: &[(u32, &str, u32)], links: &[(u32, u32, bool)], known: &[(u32, &str)]) -> Described {
        let way = |(ifindex, router, weight): &(u32, &str, u32)| Way {
            ifindex: *ifindex,
            neighbour: ip(router),
            weight: *weight,
        };
        let reach = Reach { ways: reach.iter().map(way).collect(), ..Reach::default() };
        let links = links.iter().map(|(index, mtu, running)| link(*index, *mtu, *running)).collect();
        let usable = Neighbour::Usable { mac: PEER, permanence: Permanence::Learned };
        let neighbours = known.iter().map(|(index, address)| ((*index, ip(address)), usable)).collect();
        describe(
            &Node { vtep: ip("192.0.2.11").into(), ..Node::default() },
            ip("192.0.2.12").into(),
            &reach,
            &links,
            &neighbours,
        )
    }

    #[test]
    fn two_ways_are_used_and_the_smaller_mtu_counts() {
        let described = ways(
            &[(1, "10.0.0.1"), (2, "10.0.1.1")],
            &[(1, 9_000, true), (2, 1_500, true)],
            &[(1, "10.0.0.1"), (2, "10.0.1.1")],
        );
        let record = described.record;
        assert_eq!((record.next_hop_count, record.mtu, record.overhead), (2, 1_450, 50));
        assert_eq!(
            record.next_hops[1],
            NextHop { ifindex: 2, destination: PEER, source: Mac::new([2, 0, 0, 0, 0, 2]) }
        );
        assert_eq!(described.learned.len(), 2);
    }

    #[test]
    fn a_way_of_twice_the_weight_takes_twice_the_flows_while_it_can_be_used() {
        let reach = [(1, "10.0.0.1", 2), (2, "10.0.1.1", 1)];
        let known = [(1, "10.0.0.1"), (2, "10.0.1.1")];
        let both = weighted(&reach, &[(1, 1_500, true), (2, 1_500, true)], &known);
        let hops = |described: &Described| {
            let record = described.record;
            record.next_hops[..record.next_hop_count.into()].iter().map(|hop| hop.ifindex).collect::<Vec<_>>()
        };
        assert_eq!(hops(&both), [1, 1, 2]);
        assert_eq!(both.ways.iter().map(|way| way.entries).collect::<Vec<_>>(), [2, 1]);
        let one = weighted(&reach, &[(1, 1_500, false), (2, 1_500, true)], &known);
        assert_eq!(hops(&one), [2]);
        assert_eq!(one.ways.iter().map(|way| way.entries).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn a_dead_uplink_and_a_silent_neighbour_are_left_out() {
        let described = ways(
            &[(1, "10.0.0.1"), (2, "10.0.1.1"), (3, "10.0.2.1")],
            &[(1, 1_500, false), (2, 1_500, true), (3, 1_600, true)],
            &[(1, "10.0.0.1"), (3, "10.0.2.1")],
        );
        assert_eq!((described.record.next_hop_count, described.record.mtu), (1, 1_550));
        assert_eq!(described.record.next_hops[0].ifindex, 3);
        let states: Vec<_> = described.ways.iter().map(|way| way.state).collect();
        assert_eq!(states, [WayState::LinkDown, WayState::Unresolved, WayState::Used]);
        assert_eq!(described.unresolved, [(2, ip("10.0.1.1"))]);
    }

    #[test]
    fn no_way_is_too_small_for_nothing_and_still_a_known_vtep() {
        let described = ways(&[(1, "10.0.0.1")], &[(1, 1_500, false)], &[(1, "10.0.0.1")]);
        let record = &described.record;
        assert_eq!((record.next_hop_count, record.mtu, record.overhead), (0, u16::MAX, 50));
        assert_eq!(described.record.address, ip("192.0.2.12").into());
    }
}
