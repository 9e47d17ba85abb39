//! What a runner saw of one packet.

use crate::case::{DirectionDelta, PortDelta};
use std::collections::BTreeMap;
use vpc_common::{
    Be16, DropReason, Ip,
    counters::{Counters, DirectionCounters, Drops},
    session::Session,
};
use vpc_datapath::verdict::End;

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How its way ended.
    pub verdict: Seen,
    /// The packet as it left; none where it was dropped or used up.
    pub packet: Option<Vec<u8>>,
    /// Copies by the index of their interface, in order.
    pub copies: BTreeMap<u32, Vec<Vec<u8>>>,
}

/// How a packet's way ended, as far as the runner can see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The host sees the whole verdict.
    Whole(End),
    /// The kernel's return value shows its class only.
    Class(Class),
}

/// What a return value of the kernel tells of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Dropped, or copies were sent and nothing is left.
    Ended,
    /// Redirected to an interface.
    Redirected,
    /// Left to the host's stack.
    Passed,
}

impl Seen {
    /// The class.
    pub const fn class(self) -> Class {
        match self {
            Self::Class(class) => class,
            Self::Whole(End::Drop(_) | End::Replicated) => Class::Ended,
            Self::Whole(End::Punt) => Class::Passed,
            Self::Whole(End::Transmit(_) | End::Deliver(_) | End::Answer | End::Offload(_)) => Class::Redirected,
        }
    }
}

/// The counters of all slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub BTreeMap<u16, SlotCounts>);

/// The counters of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotCounts {
    /// Frames and bytes.
    pub counters: Counters,
    /// By reason.
    pub drops: [u64; vpc_common::drop::DROP_REASONS],
}

impl Default for SlotCounts {
    fn default() -> Self {
        Self { counters: Counters::default(), drops: [0; vpc_common::drop::DROP_REASONS] }
    }
}

impl SlotCounts {
    /// Adds the counters of one CPU.
    pub fn add(&mut self, counters: &Counters, drops: &Drops) {
        for (sum, part) in
            [(&mut self.counters.egress, &counters.egress), (&mut self.counters.ingress, &counters.ingress)]
        {
            sum.received += part.received;
            sum.received_bytes += part.received_bytes;
            sum.forwarded += part.forwarded;
            sum.forwarded_bytes += part.forwarded_bytes;
            sum.answered += part.answered;
            sum.punted += part.punted;
            sum.dropped += part.dropped;
        }
        self.drops.iter_mut().zip(drops.0).for_each(|(sum, part)| *sum += part);
    }

    /// K1: received = forwarded + dropped + answered + punted in each direction, and the drops have reasons.
    pub fn balance(&self) -> bool {
        let balances = |c: &DirectionCounters| c.received == c.forwarded + c.dropped + c.answered + c.punted;
        let dropped = self.counters.egress.dropped + self.counters.ingress.dropped;
        balances(&self.counters.egress) && balances(&self.counters.ingress) && dropped == self.drops.iter().sum::<u64>()
    }
}

impl Counts {
    /// By how much they moved since `before`; slots that did not move are left out.
    pub fn since(&self, before: &Self) -> BTreeMap<u16, PortDelta> {
        let delta = |slot: &u16, now: &SlotCounts| {
            let before = before.0.get(slot).copied().unwrap_or_default();
            let reason = |number: usize| DropReason::from_number(number as u8).map_or("unnamed", DropReason::name);
            let drops = now.drops.iter().zip(before.drops).enumerate();
            PortDelta {
                egress: direction(&now.counters.egress, &before.counters.egress),
                ingress: direction(&now.counters.ingress, &before.counters.ingress),
                drops: drops
                    .filter(|(_, (now, before))| *now != before)
                    .map(|(number, (now, before))| (reason(number).to_owned(), now - before))
                    .collect(),
            }
        };
        let all = self.0.iter().map(|(slot, now)| (*slot, delta(slot, now)));
        all.filter(|(_, delta)| *delta != PortDelta::default()).collect()
    }
}

fn direction(now: &DirectionCounters, before: &DirectionCounters) -> DirectionDelta {
    DirectionDelta {
        received: now.received - before.received,
        received_bytes: now.received_bytes - before.received_bytes,
        forwarded: now.forwarded - before.forwarded,
        forwarded_bytes: now.forwarded_bytes - before.forwarded_bytes,
        answered: now.answered - before.answered,
        punted: now.punted - before.punted,
        dropped: now.dropped - before.dropped,
    }
}

/// The key of a session of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey {
    /// Slot of the port.
    pub slot: u16,
    /// IP protocol.
    pub protocol: u8,
    /// The workload's address.
    pub local: Ip,
    /// Its port.
    pub local_port: Be16,
    /// The peer's address.
    pub remote: Ip,
    /// Its port.
    pub remote_port: Be16,
}

/// All sessions, without the time when they were seen last: runners have different clocks.
pub type Sessions = BTreeMap<FlowKey, Session>;

/// Leaves out what depends on the clock: of a flow that stays on the node also what the sender's session tells the
/// receiver's once in a tick.
pub fn timeless(session: &Session) -> Session {
    let timeless = Session { last_seen: 0, opened: 0, ..*session };
    if session.way.is_local() {
        let source_port = Be16::default();
        Session { source_port, received_packets: 0, received_bytes: 0, peer_expects: 0, ..timeless }
    } else {
        timeless
    }
}
