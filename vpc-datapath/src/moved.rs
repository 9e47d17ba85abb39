//! Guests that have moved to another node with their NAT mappings. Each external port stays one of the slice of the node
//! where its mapping was made, since everybody computes that node; it sends after its guests, and speaks for them.

use crate::{
    Scratch, Tables, clock,
    family::{Family, FamilyV4},
    nat, route,
};
use vpc_common::{
    Be32, Ip, Vni,
    nat::{ExternalPort, kind},
    session::V4,
};

/// The node of a guest; 0 where nobody has the address.
#[inline(always)]
pub(crate) fn whereabouts<T: Tables>(tables: &T, scratch: &mut Scratch, vpc: Vni, private: V4) -> u16 {
    let endpoint = route::endpoint(tables, scratch, vpc, Ip::v4(Be32::from_raw(private[0])));
    endpoint.map_or(0, |endpoint| endpoint.node)
}

/// Takes a mapping of `scratch.outside` that came to this node with its guest, from the node of the slice.
#[inline(never)]
pub fn brought_along<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    let Some(own) = tables.node() else { return false };
    let (own, inward) = (own.id, &mut scratch.inward);
    if inward.private != [0] {
        return false;
    }
    let found = tables.nat_in(&scratch.outside, |mapping| {
        (inward.private, inward.port, inward.slot) = (mapping.private, mapping.port, mapping.slot);
    });
    if found.is_some() {
        inward.node = own as u16;
    }
    found.is_some()
}

/// Whether `scratch.outside` is a port of this node's slice whose guest has left for that node, and so may speak by it.
#[inline(never)]
pub fn has_left_for<T: Tables>(tables: &T, scratch: &mut Scratch, node: u16) -> bool {
    let (Some(external), Some(own)) = (tables.external(&scratch.outside.address), tables.node()) else { return false };
    if external.kind != kind::NAT || external.owner(scratch.outside.port) as u32 != own.id {
        return false;
    }
    let (vpc, now) = (external.vpc, clock::tick(tables, &mut scratch.clock));
    let found = tables.nat_in(&scratch.outside, |mapping| {
        if mapping.kept == 0 {
            return [0];
        }
        mapping.last_used = now;
        mapping.private
    });
    match found {
        Some(private) if private != [0] => node != 0 && whereabouts(tables, scratch, vpc, private) == node,
        _ => false,
    }
}

/// The other node whose slice the packet's external port belongs to: its guest has brought it along. 0: it is this node's.
#[inline(never)]
pub fn lender<T: Tables>(tables: &T, scratch: &mut Scratch) -> u16 {
    let (flow, protocol) = (&scratch.flow, FamilyV4::key(&scratch.keys).protocol);
    scratch.peer = ExternalPort { address: flow.external, protocol, reserved: 0, port: flow.external_port };
    let (Some(external), Some(own)) = (tables.external(&scratch.peer.address), tables.node()) else { return 0 };
    if external.kind != kind::NAT {
        return 0;
    }
    let owner = external.owner(scratch.peer.port);
    // Who has a port forward is said by the topology.
    if owner as u32 == own.id || nat::forward(tables, &scratch.peer, external).is_some() { 0 } else { owner }
}
