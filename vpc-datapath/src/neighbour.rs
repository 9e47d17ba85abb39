//! Flows that stay on the node. Both of their ports have a session for them, but a packet is looked up in its sender's
//! only: where the receiver's session has let data of an established flow pass, the sender's notes under which epoch, and
//! that it holds for more of the same until the tick or the receiver's epoch moves on.
//!
//! Both sessions see what can change a state: control packets of TCP, and all packets until both sides have spoken. Of the
//! acknowledgments of an established connection each session knows its own side's: whether an RST is exact its receiver's
//! session judges, and the sender's follows.

use crate::{
    Packet, Scratch, Stage, Tables, clock,
    family::Family,
    ingress,
    scratch::Flow,
    session::{self, Origin},
};
use vpc_common::{
    Be16,
    port::Port,
    session::{Session, state},
    wire::tcp_flags,
};

/// What a packet means to the other session of its flow; [`Flow::neighbourly`].
pub mod meaning {
    /// That one must see it, and no more is known.
    pub const NONE: u8 = 0;
    /// Data of an established flow: if it passes, more of it may.
    pub const DATA: u8 = 1;
    /// An RST, which that one judges.
    pub const RESET: u8 = 2;
}

/// Takes from the sender's session what the receiver's must see of this packet.
#[inline(always)]
pub fn recall(session: &Session, flow: &mut Flow, now: u16) {
    const CONTROL: u8 = tcp_flags::SYN | tcp_flags::FIN | tcp_flags::RST;
    let is_data = match session.state {
        state::ESTABLISHED => flow.tcp_flags & CONTROL == 0,
        other => other == state::TWO_WAY,
    };
    if is_data {
        flow.neighbourly = meaning::DATA;
        if session.source_port.raw() == now {
            flow.vouched_epoch = session.vouched_epoch;
        }
    } else if is_reset(session, flow) {
        flow.neighbourly = meaning::RESET;
    }
}

/// Whether it is an RST whose sender's session does not know what the receiver expects.
#[inline(always)]
fn is_reset(session: &Session, flow: &Flow) -> bool {
    flow.tcp_flags & tcp_flags::RST != 0 && matches!(session.state, state::ESTABLISHED | state::CLOSING)
}

/// Whether the receiver's session need not see the packet. Half of an epoch is enough for that, see
/// [`Session::vouched_epoch`]; half of one may be 0, which vouches for nothing.
#[inline(always)]
pub fn is_vouched_for(flow: &Flow, receiver: &Port) -> bool {
    flow.vouched_epoch != 0 && flow.vouched_epoch == receiver.epoch as u16
}

/// Whether a port of this node takes what another one sends to it. The packet stays the sender's: a drop is counted there.
#[inline(never)]
pub fn admit<F: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    scratch: &mut Scratch,
    slot: u16,
    port: &Port,
) -> Stage {
    let (sender, epoch) = (scratch.flow.slot, scratch.flow.epoch);
    session::begin(scratch, slot, port);
    (scratch.flow.receiver_state, scratch.flow.vouched_epoch) = (0, 0);
    let admitted = ingress::admit::<F, P, T>(packet, tables, scratch, port, Origin::Node);
    let receiver_epoch = scratch.flow.epoch;
    (scratch.flow.slot, scratch.flow.epoch) = (sender, epoch);
    admitted?;
    if scratch.flow.neighbourly != meaning::NONE {
        remember::<F, T>(tables, scratch, receiver_epoch);
    }
    Ok(())
}

/// Tells the sender's session what the receiver's has made of a packet that it let pass.
#[inline(always)]
fn remember<F: Family, T: Tables>(tables: &T, scratch: &mut Scratch, receiver_epoch: u32) {
    session::key_of_sender::<F>(scratch, scratch.flow.slot);
    let now = clock::tick(tables, &mut scratch.clock);
    let flow = &scratch.flow;
    tables.session(F::key(&scratch.keys), |session| {
        if flow.neighbourly == meaning::DATA {
            session.vouched_epoch = receiver_epoch as u16;
            session.source_port = Be16::from_raw(now);
        } else if flow.receiver_state == state::CLOSED {
            session.state = state::CLOSED;
        }
    });
}
