//! Network address translation (RFC 4787, RFC 5382, RFC 5508), on the guest's own node and nowhere else.

use crate::{
    Packet, Scratch, Stage, Tables, clock,
    conntrack::{self, Side},
    deliver,
    family::{Family, FamilyV4, quoted_ports},
    mapping, moved,
    packet::{Covered, SumChange, Zero},
    route,
    scratch::{Flow, Inward, flow_flags},
    session::Known,
};
use vpc_common::{
    Be16, Be32, DropReason, Ip,
    nat::{ElasticKey, External, ExternalPort, Forward, NatIn, NatOutKey, kind},
    port::Port,
    session::V4,
    wire::{Icmp, Ipv4, protocol},
};

/// Which end of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// Gateway of a route to an internet gateway, which translates by elastic IPs only.
pub const NO_GATEWAY: u32 = 0;

const L3: usize = crate::family::L3;
const L4: usize = FamilyV4::L4;
/// The packet that an ICMP error quotes, and its layer-4 header.
const QUOTE: usize = L4 + size_of::<Icmp>();
const QUOTE_L4: usize = QUOTE + size_of::<Ipv4>();
/// Bytes up to and with the TCP checksum of a quoted packet.
const QUOTE_END: u32 = QUOTE_L4 as u32 + 20;

/// Whether the packet is an ICMP error, whose ports are those of the packet that it quotes.
#[inline(always)]
pub fn is_error(flow: &Flow) -> bool {
    flow.protocol == protocol::ICMP
        && flow.flags & (flow_flags::UNTRACKED | flow_flags::LATER_FRAGMENT) == flow_flags::UNTRACKED
        && FamilyV4::is_error(flow.icmp_type)
}

/// Writes address, protocol and port of an external end to `scratch.outside`.
#[inline(never)]
pub fn outside<P: Packet>(packet: &mut P, scratch: &mut Scratch, end: End) -> Stage {
    let flow = &scratch.flow;
    let (address, port) = match end {
        End::Source => (flow.source, flow.source_port),
        End::Destination => (flow.destination, flow.destination_port),
    };
    scratch.outside = ExternalPort { address: [address.0[3]], protocol: flow.protocol, reserved: 0, port };
    if !is_error(flow) {
        return Ok(());
    }
    packet.pull(QUOTE_END);
    let quote = packet.get::<Ipv4>(QUOTE).ok_or(DropReason::NoMapping)?;
    let quoted = match end {
        End::Source => quote.destination,
        End::Destination => quote.source,
    };
    if quote.version_ihl != 0x45 || quote.fragment.get() & Ipv4::OFFSET != 0 || quoted != address.low() {
        return Err(DropReason::NoMapping.into());
    }
    let protocol = quote.protocol;
    let ports = quoted_ports::<FamilyV4, P>(packet, QUOTE_L4, protocol).ok_or(DropReason::NoMapping)?;
    scratch.outside.protocol = protocol;
    scratch.outside.port = match end {
        End::Source => ports.destination,
        End::Destination => ports.source,
    };
    Ok(())
}

/// The node that has an external port.
#[inline(always)]
pub fn owner<T: Tables>(tables: &T, key: &ExternalPort, external: &External) -> u16 {
    forward(tables, key, external).map_or_else(|| external.owner(key.port), |forward| forward.node)
}

/// Where an external port is forwarded to.
#[inline(always)]
pub fn forward<'t, T: Tables>(tables: &'t T, key: &ExternalPort, external: &External) -> Option<&'t Forward> {
    if external.forwards == 0 { None } else { tables.forward(key) }
}

/// Finds who is to have what comes from outside to `scratch.outside`: `scratch.inward`, with the slot if that is a port of
/// this node.
#[inline(never)]
pub fn resolve<T: Tables>(tables: &T, scratch: &mut Scratch) -> Stage {
    let own = tables.node().ok_or(DropReason::NoUnderlay)?.id;
    let key = &scratch.outside;
    let external = tables.external(&key.address).ok_or(DropReason::NoMapping)?;
    let mut inward = Inward {
        private: external.private,
        vpc: external.vpc,
        node: external.owner(key.port),
        slot: 0,
        port: key.port,
        left: 0,
    };
    if external.kind == kind::NAT {
        inward.private = [0];
        if let Some(forward) = forward(tables, key, external) {
            (inward.private, inward.node, inward.port) = (forward.private, forward.node, forward.port);
        }
    }
    scratch.inward = inward;
    if inward.node == 0 {
        return Err(DropReason::NoMapping.into());
    }
    if inward.node as u32 != own {
        return Ok(());
    }
    if inward.private == [0] {
        return own_mapping(tables, scratch);
    }
    let (vpc, address) = (scratch.inward.vpc, Ip::v4(Be32::from_raw(scratch.inward.private[0])));
    let endpoint = route::endpoint(tables, scratch, vpc, address).ok_or(DropReason::NoMapping)?;
    scratch.inward.slot = deliver::locate_endpoint(tables, endpoint.l2_vni, endpoint.mac)?;
    Ok(())
}

/// What a mapping of this node's slice says. If its guest has left, that is another node.
#[inline(always)]
fn own_mapping<T: Tables>(tables: &T, scratch: &mut Scratch) -> Stage {
    let now = clock::tick(tables, &mut scratch.clock);
    let inward = &mut scratch.inward;
    let found = tables.nat_in(&scratch.outside, |mapping| {
        (inward.private, inward.port, inward.slot) = (mapping.private, mapping.port, mapping.slot);
        if mapping.kept != 0 {
            mapping.last_used = now;
            inward.left = 1;
        }
    });
    if found.is_none() {
        return Err(DropReason::NoMapping.into());
    }
    if scratch.inward.left != 0 {
        let (vpc, private, own) = (scratch.inward.vpc, scratch.inward.private, scratch.inward.node);
        let node = moved::whereabouts(tables, scratch, vpc, private);
        scratch.inward.node = node;
        scratch.inward.left = (node != own) as u16;
        if node == 0 {
            return Err(DropReason::NoMapping.into());
        }
    }
    Ok(())
}

/// Chooses the external address and port with which a packet of a guest leaves: `flow.external`.
#[inline(never)]
pub fn choose<P: Packet, T: Tables>(
    tables: &T,
    scratch: &mut Scratch,
    port: &Port,
    gateway: u32,
    known: Known,
) -> Stage {
    if is_error(&scratch.flow) {
        // The key at hand is that of the flow which the error is about.
        return if of_session(tables, scratch) { Ok(()) } else { Err(DropReason::NoSession.into()) };
    }
    if known.stands() && of_session(tables, scratch) && still_stands(tables, scratch, port) {
        return Ok(());
    }
    let flow = &mut scratch.flow;
    let private: V4 = [flow.source.0[3]];
    if gateway == NO_GATEWAY {
        scratch.elastic = ElasticKey { vpc: port.vpc, private };
        flow.external = *tables.elastic_ip(&scratch.elastic).ok_or(DropReason::NoElasticIp)?;
        flow.external_port = flow.source_port;
        return Ok(());
    }
    let echo = flow.protocol == protocol::ICMP && flow.icmp_type == FamilyV4::ECHO.0;
    if !(echo || flow.protocol == protocol::TCP || flow.protocol == protocol::UDP) {
        return Err(DropReason::NatProtocol.into());
    }
    if !known.stands() && conntrack::opening_state::<FamilyV4>(flow) == 0 {
        return Err(DropReason::NoSession.into());
    }
    scratch.nat_out = NatOutKey {
        gateway,
        private,
        slot: flow.slot,
        port: flow.source_port,
        protocol: flow.protocol,
        reserved: [0; 3],
    };
    mapping::find_or_make::<P, T>(tables, scratch)
}

/// Takes the external address and port of the session at hand.
#[inline(always)]
fn of_session<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    let Scratch { keys, flow, .. } = scratch;
    let found = tables.session(FamilyV4::key(keys), |session| {
        (flow.external, flow.external_port) = session.external();
    });
    found.is_some() && flow.external != [0]
}

/// Whether they still stand for the guest: the topology may have changed.
#[inline(always)]
fn still_stands<T: Tables>(tables: &T, scratch: &mut Scratch, port: &Port) -> bool {
    let flow = &scratch.flow;
    scratch.outside =
        ExternalPort { address: flow.external, protocol: flow.protocol, reserved: 0, port: flow.external_port };
    stands_for(tables, scratch, port, End::Source)
}

/// Whether the session at hand, of the guest that a packet goes to, is bound to its external address and port: by no other
/// ones may the flow be reached.
#[inline(never)]
pub fn is_bound<F: Family, T: Tables>(tables: &T, scratch: &mut Scratch, port: &Port) -> bool {
    let Scratch { keys, flow, outside, .. } = scratch;
    let found = tables.session(F::key(keys), |session| {
        let (address, port) = session.external();
        *outside = ExternalPort { address, protocol: flow.protocol, reserved: 0, port };
    });
    found.is_some() && (scratch.outside.address == [0] || stands_for(tables, scratch, port, End::Destination))
}

/// Whether `scratch.outside` stands for the guest at that end of the packet.
#[inline(always)]
fn stands_for<T: Tables>(tables: &T, scratch: &Scratch, port: &Port, guest: End) -> bool {
    let flow = &scratch.flow;
    let slot = flow.slot;
    let (private, own_port) = match guest {
        End::Source => ([flow.source.0[3]], flow.source_port),
        End::Destination => ([flow.destination.0[3]], flow.destination_port),
    };
    let Some(external) = tables.external(&scratch.outside.address) else { return false };
    if external.vpc != port.vpc {
        return false;
    }
    if external.kind == kind::ELASTIC {
        return external.private == private;
    }
    if let Some(forward) = forward(tables, &scratch.outside, external) {
        return forward.private == private && forward.port == own_port;
    }
    let same = |m: &mut NatIn| m.private == private && m.port == own_port && m.slot == slot;
    tables.nat_in(&scratch.outside, same) == Some(true)
}

/// Puts an external address and port in the place of the guest's in what it sends, or the guest's in the place of the
/// external ones in what it is sent.
#[inline(never)]
pub fn replace<P: Packet>(packet: &mut P, scratch: &Scratch, end: End, address: V4, port: Be16) -> Stage {
    let ip = packet.get_mut::<Ipv4>(L3).ok_or(DropReason::Truncated)?;
    let old = replace_address(ip, end, address);
    let flow = &scratch.flow;
    if flow.flags & flow_flags::LATER_FRAGMENT != 0 {
        return Ok(());
    }
    match flow.protocol {
        protocol::TCP => segment::<P, 16>(packet, end, [old, address[0]], port, Zero::Value),
        protocol::UDP => segment::<P, 6>(packet, end, [old, address[0]], port, Zero::Absent),
        protocol::ICMP if is_error(flow) => replace_quoted(packet, end, address, port),
        protocol::ICMP => {
            let asks = match end {
                End::Source => FamilyV4::ECHO.0,
                End::Destination => FamilyV4::ECHO.1,
            };
            if flow.icmp_type == asks { replace_id::<P, L4>(packet, port) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

#[inline(always)]
fn replace_address(ip: &mut Ipv4, end: End, address: V4) -> u32 {
    let field = match end {
        End::Source => &mut ip.source,
        End::Destination => &mut ip.destination,
    };
    let old = field.raw();
    *field = Be32::from_raw(address[0]);
    ip.checksum = crate::checksum::update_address(ip.checksum, old, address[0]);
    old
}

/// TCP or UDP, whose checksum is `CHECKSUM` bytes into its header.
#[inline(always)]
fn segment<P: Packet, const CHECKSUM: usize>(
    packet: &mut P,
    end: End,
    [old, new]: [u32; 2],
    port: Be16,
    zero: Zero,
) -> Stage {
    packet
        .change_sum(L4 + CHECKSUM, SumChange { old, new, covered: Covered::PseudoHeader, zero })
        .map_err(|_| DropReason::NoRoom)?;
    let field = match end {
        End::Source => packet.get_mut::<Be16>(L4),
        End::Destination => packet.get_mut::<Be16>(L4 + 2),
    };
    let field = field.ok_or(DropReason::Truncated)?;
    let old = *field;
    if old == port {
        return Ok(());
    }
    *field = port;
    let change = SumChange { old: old.raw() as u32, new: port.raw() as u32, covered: Covered::Segment, zero };
    Ok(packet.change_sum(L4 + CHECKSUM, change).map_err(|_| DropReason::NoRoom)?)
}

/// The identifier of an echo at `AT`.
#[inline(always)]
fn replace_id<P: Packet, const AT: usize>(packet: &mut P, id: Be16) -> Stage {
    let icmp = packet.get_mut::<Icmp>(AT).ok_or(DropReason::Truncated)?;
    icmp.checksum = crate::checksum::update(icmp.checksum, icmp.id.raw(), id.raw());
    icmp.id = id;
    Ok(())
}

/// What an ICMP error quotes was sent the other way (RFC 5508 REQ-4, REQ-5). Its header's checksum makes up for its address;
/// what is changed behind it changes the error's checksum.
#[inline(always)]
fn replace_quoted<P: Packet>(packet: &mut P, end: End, address: V4, port: Be16) -> Stage {
    let quote = packet.get_mut::<Ipv4>(QUOTE).ok_or(DropReason::Truncated)?;
    let of = match end {
        End::Source => End::Destination,
        End::Destination => End::Source,
    };
    let old = replace_address(quote, of, address);
    let inner = quote.protocol;
    match inner {
        protocol::ICMP => replace_id::<P, QUOTE_L4>(packet, port),
        protocol::TCP => quoted_segment::<P, 16>(packet, of, [old, address[0]], port),
        protocol::UDP => quoted_segment::<P, 6>(packet, of, [old, address[0]], port),
        _ => Ok(()),
    }
}

#[inline(always)]
fn quoted_segment<P: Packet, const CHECKSUM: usize>(
    packet: &mut P,
    of: End,
    [old, new]: [u32; 2],
    port: Be16,
) -> Stage {
    let field = match of {
        End::Source => packet.get_mut::<Be16>(QUOTE_L4),
        End::Destination => packet.get_mut::<Be16>(QUOTE_L4 + 2),
    };
    let field = field.ok_or(DropReason::Truncated)?;
    let old_port = *field;
    *field = port;
    let mut words = [old_port.raw(), port.raw(), 0, 0];
    if let Some(sum) = packet.get_mut::<Be16>(QUOTE_L4 + CHECKSUM)
        && (*sum != Be16::default() || CHECKSUM != 6)
    {
        words[2] = sum.raw();
        *sum = crate::checksum::update(crate::checksum::update_address(*sum, old, new), old_port.raw(), port.raw());
        words[3] = sum.raw();
    }
    let icmp = packet.get_mut::<Icmp>(L4).ok_or(DropReason::Truncated)?;
    let sum = crate::checksum::update(icmp.checksum, words[0], words[1]);
    icmp.checksum = crate::checksum::update(sum, words[2], words[3]);
    Ok(())
}

/// Writes the key of the session that an ICMP error of the guest is about.
#[inline(always)]
pub fn key_of_quoted<P: Packet>(packet: &mut P, scratch: &mut Scratch) -> Stage {
    packet.pull(QUOTE_END);
    if FamilyV4::quoted(packet, QUOTE, scratch, Side::Guest) { Ok(()) } else { Err(DropReason::NoSession.into()) }
}
