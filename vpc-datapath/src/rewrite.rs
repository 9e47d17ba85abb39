//! Changes that the router makes to an inner header.

use crate::{
    Packet, Scratch, Stage,
    family::{Family, FamilyV4, L3},
    nat,
};
use vpc_common::{DropReason, Mac};

/// Writes the Ethernet header with which the frame leaves to `scratch.leaving`; TTL less one where the router forwards it (RFC 1812 §5.3.1).
#[inline(always)]
pub fn forward<F: Family, P: Packet>(packet: &mut P, scratch: &mut Scratch) -> Stage {
    scratch.leaving = scratch.flow.ethernet;
    let way = scratch.hop.way;
    if way.is_routed() {
        if !way.is_hairpin() {
            F::decrement_ttl(packet.get_mut(L3).ok_or(DropReason::Truncated)?);
        }
        if way.is_translated() && F::ICMP == FamilyV4::ICMP {
            nat::replace(packet, scratch, nat::End::Source, scratch.flow.external, scratch.flow.external_port)?;
        }
        scratch.leaving.destination = scratch.hop.destination;
        scratch.leaving.source = Mac::ROUTER;
    }
    Ok(())
}

/// TOS of the inner packet after decapsulation: ECN by RFC 6040 §4.2, and the outer DSCP in the uniform model.
/// `None` where the packet must be dropped.
#[inline(always)]
pub const fn decapsulated_tos(inner: u8, outer: u8, uniform: DscpModel) -> Option<u8> {
    const CE: u8 = 3;
    let ecn = match (inner & 3, outer & 3) {
        (0, CE) => return None,
        (_, CE) => CE,
        // Outer ECT(1) over inner ECT(0): figure 4 of RFC 6040.
        (2, 1) => 1,
        (inner, _) => inner,
    };
    let dscp = match uniform {
        DscpModel::Uniform => outer & 0xfc,
        DscpModel::Pipe => inner & 0xfc,
    };
    Some(dscp | ecn)
}

/// RFC 2983: whether the tunnel's DSCP is the packet's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DscpModel {
    /// One DSCP, copied out and back in.
    Uniform,
    /// The tunnel has its own.
    Pipe,
}

/// Sets the TOS if it changes.
#[inline(always)]
pub fn set_tos<F: Family, P: Packet>(packet: &mut P, tos: u8) -> Stage {
    let header = packet.get_mut::<F::Header>(L3).ok_or(DropReason::Truncated)?;
    if F::tos(header) != tos {
        F::set_tos(header, tos);
    }
    Ok(())
}
