//! Routing: from a destination to the endpoint that takes the packet, and what a router checks before it forwards.

use crate::{
    Packet, Part, Scratch, Stage, Tables,
    family::Family,
    offload,
    respond::Trouble,
    scratch::{SessionKeys, flow_flags},
};
use vpc_common::{
    Be16, Be32, DropReason, Ip, Vni,
    endpoint::{Endpoint, EndpointKey, flags as endpoint_flags},
    port::{Port, flags},
    route::{BUCKETS, RouteKey, kind},
    wire::{Ethernet, protocol},
};

/// Why there is no way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// To the outside, by that NAT gateway or by an elastic IP: see [`crate::nat::NO_GATEWAY`].
    Outside(u32),
    /// To be answered.
    Unreachable(Trouble),
    /// To be dropped.
    Silent(DropReason),
}

/// The longest matching route of the port's table, and its endpoint; the endpoint at once where that is the same.
#[inline(always)]
pub fn lookup<'t, F: Family, T: Tables>(
    tables: &'t T,
    scratch: &mut Scratch,
    port: &Port,
    destination: Ip,
) -> Result<&'t Endpoint, NoRoute> {
    if port.flags & flags::ENDPOINTS_FIRST != 0
        && let Some(endpoint) = endpoint(tables, scratch, port.vpc, destination)
    {
        return Ok(endpoint);
    }
    scratch.route = RouteKey { prefix_len: 32 + 128, table: Be32::new(port.route_table), destination };
    let route = tables.route(&scratch.route).ok_or(NoRoute::Unreachable(Trouble::NetUnreachable))?;
    let address = match route.kind {
        kind::LOCAL => destination,
        kind::PORT => route.next_hop,
        kind::PORTS => {
            let destination = Ip::v4(Be32::new(bucket::<F>(&scratch.keys)));
            scratch.route = RouteKey { prefix_len: 32 + 128, table: route.next_hop.low(), destination };
            let instance = tables.route(&scratch.route).ok_or(NoRoute::Unreachable(Trouble::HostUnreachable))?;
            instance.next_hop
        }
        kind::INTERNET => {
            scratch.egress_rules = Port::NO_ACL;
            return Err(NoRoute::Outside(crate::nat::NO_GATEWAY));
        }
        kind::NAT if F::ICMP == protocol::ICMP => {
            scratch.egress_rules = u32::from_be(route.next_hop.0[0]);
            return Err(NoRoute::Outside(route.next_hop.low().get()));
        }
        kind::UNREACHABLE => return Err(NoRoute::Unreachable(Trouble::NetUnreachable)),
        _ => return Err(NoRoute::Silent(DropReason::Blackhole)),
    };
    endpoint(tables, scratch, route.vpc, address).ok_or(NoRoute::Unreachable(Trouble::HostUnreachable))
}

/// The bucket of the session's flow; of an ICMP error that of the flow that it is about. Both directions have the same.
#[inline(always)]
fn bucket<F: Family>(keys: &SessionKeys) -> u32 {
    let key = F::key(keys);
    let (local, remote) = (F::ip(key.local), F::ip(key.remote));
    let mut ends = [key.local_port.raw() as u64, key.remote_port.raw() as u64];
    let mut i = 0;
    while i < 4 {
        ends[0] = mixed(ends[0] ^ (local.0[i] as u64) << 32);
        ends[1] = mixed(ends[1] ^ (remote.0[i] as u64) << 32);
        i += 1;
    }
    (mixed(ends[0].wrapping_add(ends[1]) ^ key.protocol as u64) >> 32) as u32 % BUCKETS
}

#[inline(always)]
const fn mixed(word: u64) -> u64 {
    let word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word ^ word >> 29
}

/// Whether the port reaches an address without leaving the fabric's VPCs.
#[inline(never)]
pub fn is_local<T: Tables>(tables: &T, scratch: &mut Scratch, port: &Port, address: Ip) -> bool {
    scratch.route = RouteKey { prefix_len: 32 + 128, table: Be32::new(port.route_table), destination: address };
    tables.route(&scratch.route).is_some_and(|route| route.kind == kind::LOCAL)
}

/// Who has an address in a VPC.
#[inline(always)]
pub fn endpoint<'t, T: Tables>(tables: &'t T, scratch: &mut Scratch, vpc: Vni, address: Ip) -> Option<&'t Endpoint> {
    scratch.endpoint = EndpointKey { vpc, address };
    tables.endpoint(&scratch.endpoint)
}

/// Whether an address is that of a subnet's router, which no port may claim, whatever its allowed address pairs.
#[inline(always)]
pub fn is_gateway<T: Tables>(tables: &T, scratch: &mut Scratch, vpc: Vni, address: Ip) -> bool {
    endpoint(tables, scratch, vpc, address).is_some_and(|owner| owner.flags & endpoint_flags::GATEWAY != 0)
}

/// What a router checks before anything else: time to live.
#[inline(always)]
pub fn time_to_live<F: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch) -> Stage {
    if scratch.hop.way.is_routed() && scratch.flow.ttl <= 1 {
        return packet.part::<F, T>(tables, scratch, Part::Trouble(Trouble::TtlExceeded));
    }
    Ok(())
}

/// The size of a packet that will be forwarded, against the path's MTU.
#[inline(always)]
pub fn size<F: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T, scratch: &mut Scratch, mtu: u32) -> Stage {
    const L2: u32 = size_of::<Ethernet>() as u32;
    if packet.length() <= mtu + L2 {
        return Ok(());
    }
    if too_big(packet, scratch, mtu) {
        scratch.path_mtu = mtu;
        if scratch.flow.flags & flow_flags::DONT_FRAGMENT != 0 {
            return packet.part::<F, T>(tables, scratch, Part::Trouble(Trouble::TooBig));
        }
        if fits_in_smaller_segments(packet, scratch, mtu) {
            return Ok(());
        }
        if offload::is_needed(packet, scratch) {
            return offload::send::<F, P, T>(packet, tables, scratch);
        }
        return packet.part::<F, T>(tables, scratch, Part::Fragment);
    }
    if packet.gso_size() == 0 {
        // The packet fits, its padding does not.
        packet.resize(L2 + scratch.flow.l3_length as u32).map_err(|_| DropReason::NoRoom)?;
    }
    Ok(())
}

/// Makes the segments of a GSO frame of TCP as small as the path wants them, which were not cut yet: to their receiver that
/// is what any sender may do, and spares it fragments. False: the frame is none, or the kernel cannot.
#[inline(always)]
fn fits_in_smaller_segments<P: Packet>(packet: &mut P, scratch: &Scratch, mtu: u32) -> bool {
    let size = packet.gso_size();
    if size == 0 || scratch.flow.protocol != protocol::TCP {
        return false;
    }
    let excess = segment_length(packet, scratch).wrapping_sub(mtu);
    // Headers alone must leave room: a path of 576 bytes and the longest headers do.
    excess < size && packet.shrink_segments(excess).is_ok()
}

/// Whether the packet, or one segment of it, is larger than `mtu`. Padding behind the packet does not count.
#[inline(always)]
pub fn too_big<P: Packet>(packet: &P, scratch: &Scratch, mtu: u32) -> bool {
    match packet.gso_size() {
        0 => scratch.flow.l3_length as u32 > mtu,
        _ => segment_length(packet, scratch) > mtu,
    }
}

/// Bytes of IP of one segment of a GSO frame.
#[inline(always)]
fn segment_length<P: Packet>(packet: &P, scratch: &Scratch) -> u32 {
    // The headers before the payload: TCP's with 20 bytes of options is the most that they can be.
    const L3: u32 = size_of::<Ethernet>() as u32;
    packet.gso_size() + scratch.flow.l4 as u32 - L3 + segment_header(packet, scratch)
}

/// Layer-4 header of each segment, bytes.
#[inline(always)]
fn segment_header<P: Packet>(packet: &P, scratch: &Scratch) -> u32 {
    if scratch.flow.protocol != protocol::TCP {
        return 8;
    }
    match packet.get_at::<Be16>(scratch.flow.l4 as usize + 12) {
        Some(offset_flags) => (offset_flags.get() >> 12) as u32 * 4,
        None => 60,
    }
}
