//! The session table: a flow is decided once, then found by one look-up.

use crate::{Packet, Scratch, Tables, family::Family, scratch::flow_flags};
use vpc_common::{
    Be16, Mac,
    port::Port,
    session::{FlowCounter, Session, SessionKey, decided, hop_flags},
    wire::ether_type,
};

/// Shift of the monotonic clock, ns, to [`Session::last_seen`].
pub const TICK_SHIFT: u32 = 30;

/// Writes the key of a packet that the workload sent.
#[inline(always)]
pub fn key_of_sender<F: Family>(scratch: &mut Scratch, slot: u16) {
    let flow = &scratch.flow;
    *F::key_mut(&mut scratch.keys) = SessionKey {
        slot,
        protocol: flow.protocol,
        reserved: 0,
        local_port: flow.source_port,
        remote_port: flow.destination_port,
        local: F::address(flow.source),
        remote: F::address(flow.destination),
    };
}

/// Writes the key of a packet that the workload is sent.
#[inline(always)]
pub fn key_of_receiver<F: Family>(scratch: &mut Scratch, slot: u16) {
    let flow = &scratch.flow;
    *F::key_mut(&mut scratch.keys) = SessionKey {
        slot,
        protocol: flow.protocol,
        reserved: 0,
        local_port: flow.destination_port,
        remote_port: flow.source_port,
        local: F::address(flow.destination),
        remote: F::address(flow.source),
    };
}

/// Takes the decision of an established flow into `scratch.hop`. False: it must be decided.
#[inline(always)]
pub fn established<F: Family, P: Packet, T: Tables>(packet: &P, tables: &T, scratch: &mut Scratch) -> bool {
    if scratch.flow.flags & flow_flags::UNTRACKED != 0 {
        return false;
    }
    let length = packet.length();
    let Scratch { keys, flow, hop, .. } = scratch;
    let found = tables.session(F::key(keys), |session| {
        if session.epoch != flow.epoch || session.decided & decided::EGRESS == 0 {
            return false;
        }
        // The same addresses may be reached through the router or directly: the frame says which was meant.
        let routed = session.egress.flags & hop_flags::ROUTED != 0;
        let expected = if routed { Mac::ROUTER } else { session.egress.destination };
        if flow.ethernet.destination != expected {
            return false;
        }
        saw(&mut session.last_seen, tables);
        count(&mut session.sent, length);
        *hop = session.egress;
        flow.outer_port = session.source_port;
        true
    });
    found == Some(true)
}

/// Whether an established flow admits a packet from the tunnel.
#[inline(always)]
pub fn admitted<F: Family, P: Packet, T: Tables>(packet: &P, tables: &T, scratch: &mut Scratch) -> bool {
    if scratch.flow.flags & flow_flags::UNTRACKED != 0 {
        return false;
    }
    let (epoch, length) = (scratch.flow.epoch, packet.length());
    let node = tables.session(F::key(&scratch.keys), |session| {
        if session.epoch != epoch || session.decided & decided::INGRESS == 0 {
            return 0;
        }
        saw(&mut session.last_seen, tables);
        count(&mut session.received, length);
        session.ingress_vtep
    });
    // No node has the id 0, and its element has no address.
    match tables.vtep(node.unwrap_or(0)) {
        Some(vtep) => vtep.address == scratch.outer.source,
        None => false,
    }
}

/// Records the decision in `scratch.hop` for what the workload sends.
#[inline(always)]
pub fn record_egress<F: Family, T: Tables>(tables: &T, scratch: &mut Scratch, length: u32) {
    let Scratch { keys, flow, hop, .. } = &*scratch;
    let (epoch, port) = (flow.epoch, flow.outer_port);
    let found = tables.session(F::key(keys), |session| {
        renew(session, epoch);
        session.egress = *hop;
        session.source_port = port;
        session.decided |= decided::EGRESS;
        saw(&mut session.last_seen, tables);
        count(&mut session.sent, length);
    });
    if found.is_none() {
        scratch.session = fresh(epoch, tables);
        scratch.session.egress = scratch.hop;
        scratch.session.source_port = port;
        scratch.session.decided = decided::EGRESS;
        count(&mut scratch.session.sent, length);
        tables.insert_session(F::key(&scratch.keys), &scratch.session);
    }
}

/// Records that packets of the flow are admitted from the VTEP of `node`.
#[inline(always)]
pub fn record_ingress<F: Family, T: Tables>(tables: &T, scratch: &mut Scratch, node: u16, length: u32) {
    let epoch = scratch.flow.epoch;
    let found = tables.session(F::key(&scratch.keys), |session| {
        renew(session, epoch);
        session.ingress_vtep = node;
        session.decided |= decided::INGRESS;
        saw(&mut session.last_seen, tables);
        count(&mut session.received, length);
    });
    if found.is_none() {
        scratch.session = fresh(epoch, tables);
        scratch.session.ingress_vtep = node;
        scratch.session.decided = decided::INGRESS;
        count(&mut scratch.session.received, length);
        tables.insert_session(F::key(&scratch.keys), &scratch.session);
    }
}

/// The outer UDP source port of frames that are not IP.
pub const NOT_IP: Be16 = Be16::new(0xc000);

/// The outer UDP source port of the packet's flow, in 49152..65535 (RFC 7348 §5).
#[inline(always)]
pub fn outer_port(scratch: &Scratch) -> Be16 {
    let flow = &scratch.flow;
    if flow.ethernet.ether_type != ether_type::IPV4 && flow.ethernet.ether_type != ether_type::IPV6 {
        // No addresses were read from it.
        return NOT_IP;
    }
    let ports = (flow.source_port.raw() as u64) << 16 | flow.destination_port.raw() as u64;
    let mut h = ports << 8 | flow.protocol as u64;
    let mut i = 0;
    while i < 4 {
        h = (h ^ (flow.source.0[i] as u64) << 32 ^ flow.destination.0[i] as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        h ^= h >> 29;
        i += 1;
    }
    Be16::new(0xc000 | (h >> 32) as u16 & 0x3fff)
}

/// Notes the port's epoch before anything else is asked.
#[inline(always)]
pub fn begin(scratch: &mut Scratch, slot: u16, port: &Port) {
    scratch.flow.slot = slot;
    scratch.flow.epoch = port.epoch;
}

#[inline(always)]
fn fresh<T: Tables>(epoch: u32, tables: &T) -> Session {
    Session { epoch, last_seen: (tables.now_coarse() >> TICK_SHIFT) as u32, ..Session::default() }
}

/// What was decided under another epoch counts no more.
#[inline(always)]
fn renew(session: &mut Session, epoch: u32) {
    if session.epoch != epoch {
        session.decided = 0;
        session.epoch = epoch;
    }
}

#[inline(always)]
fn saw<T: Tables>(last_seen: &mut u32, tables: &T) {
    *last_seen = (tables.now_coarse() >> TICK_SHIFT) as u32;
}

#[inline(always)]
fn count(counter: &mut FlowCounter, length: u32) {
    counter.packets += 1;
    counter.bytes += length as u64;
}
