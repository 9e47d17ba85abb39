//! Who may send what: a port speaks with its own MAC and from its own addresses, from its first packet on.

use crate::{Scratch, Stage, Tables};
use vpc_common::{
    Be32, DropReason, Ip,
    port::{Port, flags},
    wire::Ethernet,
};

/// Bits of a source key before the address.
const SLOT_BITS: u32 = 32;

/// The source MAC. Frames to the router from plain VTEPs are judged by their address instead, when a flow is decided.
#[inline(always)]
pub fn mac(port: &Port, ethernet: &Ethernet) -> Stage {
    if ethernet.source == port.mac || port.flags & flags::ROUTER != 0 {
        Ok(())
    } else {
        Err(DropReason::SourceMac.into())
    }
}

/// Whether the port in `slot` has that address or may use it (`allowed_address_pairs`).
#[inline(always)]
pub fn owns<T: Tables>(tables: &T, scratch: &mut Scratch, slot: u16, address: Ip) -> bool {
    scratch.source.prefix_len = SLOT_BITS + 128;
    scratch.source.slot = Be32::new(slot as u32);
    scratch.source.address = address;
    tables.owns(&scratch.source)
}

/// Whether packets may go to or come from that address at the port.
#[inline(always)]
pub fn admits<T: Tables>(tables: &T, scratch: &mut Scratch, slot: u16, port: &Port, address: Ip) -> bool {
    let is_first = if address.is_v4() { address.low() == port.private_v4 } else { address == port.private_v6 };
    // A port that has no address of the family has the unspecified one there.
    (is_first && !address.is_unspecified())
        || port.flags & flags::ROUTES_FOR_OTHERS != 0
        || owns(tables, scratch, slot, address)
}
