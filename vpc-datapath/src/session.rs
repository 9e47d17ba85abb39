//! The session table: a flow is decided once, then found by one look-up.

use crate::{
    Packet, Scratch, Stage, Tables,
    clock::tick,
    conntrack::{self, Change, Side},
    family::Family,
    neighbour::{self, meaning},
    scratch::{Flow, flow_flags},
    tables::{Count, Inserted},
};
use vpc_common::{
    Be16, DropReason, Mac,
    policy::action,
    port::{Port, flags},
    session::{Head, Hop, Session, decided, state},
};

/// Writes the key of a packet that the workload sent.
#[inline(always)]
pub fn key_of_sender<F: Family>(scratch: &mut Scratch, slot: u16) {
    let flow = &scratch.flow;
    let (local, remote) = (F::address(flow.source), F::address(flow.destination));
    let key = F::key_mut(&mut scratch.keys);
    let head = key.set(slot, flow.protocol, (local, flow.source_port), (remote, flow.destination_port));
    seal::<F>(scratch, head);
}

/// Writes the key of a packet that the workload is sent.
#[inline(always)]
pub fn key_of_receiver<F: Family>(scratch: &mut Scratch, slot: u16) {
    let flow = &scratch.flow;
    let (local, remote) = (F::address(flow.destination), F::address(flow.source));
    let key = F::key_mut(&mut scratch.keys);
    let head = key.set(slot, flow.protocol, (local, flow.destination_port), (remote, flow.source_port));
    seal::<F>(scratch, head);
}

#[inline(always)]
fn seal<F: Family>(scratch: &mut Scratch, head: Head) {
    scratch.flow.seal = F::key(&scratch.keys).seal_by(head, scratch.flow.epoch);
}

/// Takes the decision of an established flow into `scratch.hop`. False: it must be decided.
#[inline(always)]
pub fn established<F: Family, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
) -> bool {
    established_by::<F, P, T>(packet, tables, scratch, port, |session, flow, now| {
        if session.way.is_local() {
            neighbour::recall(session, flow, now);
        }
        true
    })
}

/// The same, if the session is accepted in the present tick; otherwise it stays as it is.
#[inline(always)]
pub fn established_by<F: Family, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
    accepts: impl FnOnce(&Session, &mut Flow, u16) -> bool,
) -> bool {
    (scratch.flow.neighbourly, scratch.flow.vouched_epoch) = (meaning::NONE, 0);
    if scratch.flow.flags & flow_flags::UNTRACKED != 0 {
        return false;
    }
    let (length, now) = (packet.length(), tick(tables, &mut scratch.clock));
    let Scratch { keys, flow, hop, .. } = scratch;
    let found = tables.session(F::key(keys), |session| {
        if session.seal != flow.seal || session.decided & decided::EGRESS == 0 {
            return Passes::NO;
        }
        // The same addresses may be reached through the router or directly: the frame says which was meant.
        let expected = if session.way.is_routed() { Mac::ROUTER } else { session.end };
        if flow.ethernet.destination != expected
            || !conntrack::stands(session, flow, &port.timeouts, now)
            || !accepts(session, flow, now)
        {
            return Passes::NO;
        }
        *hop = session.hop();
        flow.outer_port = session.source_port;
        (flow.external, flow.external_port) = session.external();
        if tables.again(&session.seal) != flow.seal {
            (flow.neighbourly, flow.vouched_epoch) = (meaning::NONE, 0);
            (flow.external, flow.external_port) = ([0], Be16::default());
            return Passes::NO;
        }
        session.last_seen = now;
        sent(session, length);
        if flow.neighbourly == meaning::RESET {
            return Passes::YES;
        }
        Passes::after(conntrack::advance(session, flow, Side::Guest))
    });
    flow.unseen = found.is_none() as u8;
    passes(tables, flow.slot, found)
}

/// Where a packet to a workload comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Origin {
    /// Another node, by the tunnel.
    Tunnel,
    /// Another port of this node.
    Node,
    /// From outside, by the tunnel.
    Outside,
    /// From outside, or by an external address, on this node.
    OutsideHere,
}

impl Origin {
    /// The inverse of `as u32`.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Tunnel,
            1 => Self::Node,
            2 => Self::Outside,
            _ => Self::OutsideHere,
        }
    }
}

/// [`Session::ingress_vtep`] of flows that stay on the node: no node has this id.
pub const THIS_NODE: u16 = 0;

/// Whether an established flow admits a packet to the workload.
#[inline(always)]
pub fn admitted<F: Family, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
    origin: Origin,
) -> bool {
    if scratch.flow.flags & flow_flags::UNTRACKED != 0 {
        return false;
    }
    let (length, now) = (packet.length(), tick(tables, &mut scratch.clock));
    let Scratch { keys, flow, outer, .. } = scratch;
    let found = tables.session(F::key(keys), |session| {
        if session.seal != flow.seal
            || session.decided & decided::INGRESS == 0
            || !is_by_external_of(session, flow)
            || !conntrack::stands(session, flow, &port.timeouts, now)
        {
            return Passes::NO;
        }
        let expected = match origin {
            Origin::Node | Origin::OutsideHere => session.ingress_vtep == THIS_NODE,
            // The element of no node has no address.
            Origin::Tunnel | Origin::Outside => {
                tables.vtep(session.ingress_vtep).is_some_and(|vtep| vtep.address == outer.source)
            }
        };
        if !expected || tables.again(&session.seal) != flow.seal {
            return Passes::NO;
        }
        session.last_seen = now;
        received(session, length);
        let change = conntrack::advance(session, flow, Side::Peer);
        flow.receiver_state = session.state;
        Passes::after(change)
    });
    flow.unseen = found.is_none() as u8;
    passes(tables, flow.slot, found)
}

/// What came of a look at a session. Not an enumeration with a payload: the verifier refuses to see those passed on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Passes(u32);

impl Passes {
    const NO: Self = Self(0);
    const YES: Self = Self(1);
    const NOT_HALF_OPEN: Self = Self(2);

    #[inline(always)]
    const fn after(change: Change) -> Self {
        match change {
            Change::None => Self::YES,
            Change::NotHalfOpen => Self::NOT_HALF_OPEN,
        }
    }
}

#[inline(always)]
fn passes<T: Tables>(tables: &T, slot: u16, found: Option<Passes>) -> bool {
    match found {
        Some(Passes::YES) => true,
        Some(Passes::NOT_HALF_OPEN) => {
            tables.count(Count::PortHalfOpen(slot), -1);
            true
        }
        _ => false,
    }
}

/// What is known of a packet's flow before it is decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known(u32);

impl Known {
    /// No session stands for it.
    const NOTHING: Self = Self(0);
    const STANDS: u32 = 1 << 8;
    const CONFIRMED: u32 = 1 << 9;
    const SAME_EXTERNAL: u32 = 1 << 10;

    /// As a number.
    #[inline(always)]
    pub const fn number(self) -> u32 {
        self.0
    }
    /// The inverse of [`Known::number`].
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Whether a session stands for the packet.
    #[inline(always)]
    pub const fn stands(self) -> bool {
        self.0 & Self::STANDS != 0
    }
    /// Whether it was judged under the present configuration.
    #[inline(always)]
    pub const fn is_confirmed(self) -> bool {
        self.0 & Self::CONFIRMED != 0
    }
    /// Whether the session is reached by the same external address and port as the packet.
    #[inline(always)]
    pub const fn is_by_same_external(self) -> bool {
        self.0 & Self::SAME_EXTERNAL != 0
    }
    /// Who opened it: [`decided::OPENED_HERE`] or 0.
    #[inline(always)]
    pub const fn opener(self) -> u8 {
        self.0 as u8 & decided::OPENED_HERE
    }
    /// Whether it goes on when nobody allows it any more.
    #[inline(always)]
    pub const fn outlives_its_rule(self) -> bool {
        self.stands() && self.0 as u8 & decided::KEEP != 0
    }
}

/// Looks at the session of a packet that must be decided. Where none stands the packet must be one that opens a flow.
#[inline(always)]
pub fn known<F: Family, T: Tables>(tables: &T, scratch: &mut Scratch, port: &Port) -> Stage<Known> {
    if scratch.flow.flags & flow_flags::UNTRACKED != 0 {
        return Ok(Known::NOTHING);
    }
    let known = if scratch.flow.unseen != 0 { Known::NOTHING } else { look::<F, T>(tables, scratch, port) };
    if !known.stands() && opening_state::<F>(&scratch.flow, port) == 0 {
        return Err(DropReason::NoSession.into());
    }
    Ok(known)
}

/// The state in which the packet opens a flow; 0: it cannot. Of what plain VTEPs send to the router only one direction
/// is seen, and any packet may come first.
#[inline(always)]
fn opening_state<F: Family>(flow: &Flow, port: &Port) -> u8 {
    if port.flags & flags::ROUTER != 0 { state::ONE_WAY } else { conntrack::opening_state::<F>(flow) }
}

#[inline(never)]
fn look<F: Family, T: Tables>(tables: &T, scratch: &mut Scratch, port: &Port) -> Known {
    let now = tick(tables, &mut scratch.clock);
    let flow = &scratch.flow;
    let found = tables.session(F::key(&scratch.keys), |session| {
        if !conntrack::stands(session, flow, &port.timeouts, now) {
            return Known::NOTHING;
        }
        let confirmed = if session.seal == flow.seal { Known::CONFIRMED } else { 0 };
        let external = if is_by_external_of(session, flow) { Known::SAME_EXTERNAL } else { 0 };
        Known(Known::STANDS | confirmed | external | session.decided as u32)
    });
    found.unwrap_or(Known::NOTHING)
}

/// Whether a session stands under the key at hand, for a packet that is not its own: an ICMP error.
#[inline(always)]
pub fn stands<F: Family, T: Tables>(tables: &T, scratch: &mut Scratch, port: &Port) -> bool {
    let now = tick(tables, &mut scratch.clock);
    let key = F::key(&scratch.keys);
    // The flags of the error's own flow are none of TCP's.
    let found = tables.session(key, |session| {
        let idle = now.wrapping_sub(session.last_seen);
        idle <= conntrack::timeout(&port.timeouts, key.protocol, session.state)
    });
    found == Some(true)
}

/// What a decision adds to a session. Not an enumeration with a payload: the verifier refuses to see those passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision(u32);

impl Decision {
    /// `scratch.hop`, for what the workload sends.
    pub const EGRESS: Self = Self(u32::MAX);

    /// As a number.
    #[inline(always)]
    pub const fn number(self) -> u32 {
        self.0
    }
    /// The inverse of [`Decision::number`].
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Packets to the workload may come from the VTEP of that node; 0: from this node.
    #[inline(always)]
    pub const fn ingress(node: u16) -> Self {
        Self(node as u32)
    }
    #[inline(always)]
    const fn side(self) -> Side {
        if self.0 == Self::EGRESS.0 { Side::Guest } else { Side::Peer }
    }
}

/// Records a decision: in the flow's session, or in a new one within the port's quota. A function of its own, where the
/// compiler knows that the scratch is nobody else's: elsewhere it makes a session on the stack first.
#[inline(never)]
pub fn record<F: Family, T: Tables>(
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
    decision: Decision,
    known: Known,
    length: u32,
) -> Stage {
    let now = tick(tables, &mut scratch.clock);
    let side = decision.side();
    let Scratch { session: fresh, keys, flow, hop, .. } = scratch;
    let opening = opening_state::<F>(flow, port);
    // Made in its place each time: a copy would go over the stack.
    let open = |session: &mut Session, seal| {
        *session =
            Session { seal, last_seen: now, opened: now, decided: side.opener(), state: opening, ..Session::default() };
    };
    let mut half_open = 0;
    let found = if flow.unseen != 0 {
        None
    } else {
        tables.session(F::key(keys), |session| {
            if !known.stands() {
                half_open = -(conntrack::is_half_open(session.state) as i32);
                open(session, flow.seal);
            } else if session.seal != flow.seal {
                session.decided &= !(decided::EGRESS | decided::INGRESS);
                session.seal = flow.seal;
            }
            half_open += complete(session, flow, hop, decision, now, length);
        })
    };
    if found.is_none() {
        if known.stands() {
            // It was removed in this very moment.
            return Err(DropReason::NoSession.into());
        }
        reserve(tables, flow.slot, port, opening)?;
        open(fresh, flow.seal);
        complete(fresh, flow, hop, decision, now, length);
        let inserted = tables.insert_session(F::key(keys), fresh);
        if inserted != Inserted::New {
            release(tables, flow.slot, port, opening);
        }
        if inserted == Inserted::Full {
            return Err(DropReason::SessionQuota.into());
        }
    } else {
        let opened = if !known.stands() && conntrack::is_half_open(opening) { 1 } else { 0 };
        if half_open + opened != 0 {
            tables.count(Count::PortHalfOpen(flow.slot), half_open + opened);
        }
    }
    Ok(())
}

/// Fills the decision and the packet in; returns by how much the number of half-open sessions changes.
#[inline(always)]
fn complete(session: &mut Session, flow: &Flow, hop: &Hop, decision: Decision, now: u16, length: u32) -> i32 {
    match decision.side() {
        Side::Guest => {
            session.set_hop(hop);
            session.set_external(flow.external, flow.external_port);
            session.source_port = flow.outer_port;
            session.vouched_epoch = 0;
            session.decided |= decided::EGRESS;
            sent(session, length);
        }
        Side::Peer => {
            session.ingress_vtep = decision.0 as u16;
            session.decided |= decided::INGRESS;
            session.set_external(flow.external, flow.external_port);
            received(session, length);
        }
    }
    if flow.allowed_by.rule != 0 {
        session.rule = flow.allowed_by.rule;
        let keep = if flow.allowed_by.action == action::ALLOW_KEEP { decided::KEEP } else { 0 };
        session.decided = session.decided & !decided::KEEP | keep;
    }
    session.last_seen = now;
    match conntrack::advance(session, flow, decision.side()) {
        Change::None => 0,
        Change::NotHalfOpen => -1,
    }
}

/// Whether a session is reached by the same external address and port as the packet.
#[inline(always)]
fn is_by_external_of(session: &Session, flow: &Flow) -> bool {
    session.external() == (flow.external, flow.external_port)
}

/// Takes a session, and a half-open one, from the quotas of the port and of its VPC.
#[inline(always)]
fn reserve<T: Tables>(tables: &T, slot: u16, port: &Port, opening: u8) -> Stage {
    let half_open = conntrack::is_half_open(opening);
    let sessions = tables.count(Count::PortSessions(slot), 1);
    let vpc = tables.count(Count::VpcSessions(port.vpc_index), 1);
    let open = if half_open { tables.count(Count::PortHalfOpen(slot), 1) } else { 0 };
    if sessions > port.session_quota || vpc > port.vpc_quota || open > conntrack::half_open_quota(port.session_quota) {
        release(tables, slot, port, opening);
        return Err(DropReason::SessionQuota.into());
    }
    Ok(())
}

/// Gives back what [`reserve`] took.
#[inline(always)]
fn release<T: Tables>(tables: &T, slot: u16, port: &Port, opening: u8) {
    tables.count(Count::PortSessions(slot), -1);
    tables.count(Count::VpcSessions(port.vpc_index), -1);
    if conntrack::is_half_open(opening) {
        tables.count(Count::PortHalfOpen(slot), -1);
    }
}

/// Notes the port's epoch before anything else is asked.
#[inline(always)]
pub fn begin(scratch: &mut Scratch, slot: u16, port: &Port) {
    scratch.flow.slot = slot;
    scratch.flow.epoch = port.epoch;
    scratch.flow.external = [0];
    scratch.flow.external_port = Be16::default();
}

#[inline(always)]
fn sent(session: &mut Session, length: u32) {
    session.sent_packets = session.sent_packets.wrapping_add(1);
    session.sent_bytes += length as u64;
}

#[inline(always)]
fn received(session: &mut Session, length: u32) {
    session.received_packets = session.received_packets.wrapping_add(1);
    session.received_bytes += length as u64;
}
