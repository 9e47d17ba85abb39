//! What belongs to a port by the topology in force: nothing else of a state is given or taken.

use super::{FlowState, MappingState, SessionState};
use std::net::{IpAddr, SocketAddrV4};
use vpc_common::{
    Be16, Be32, Ip,
    nat::{External, ExternalPort, kind},
    port::flags,
    session::V4,
    wire::protocol,
};
use vpc_topology::compile::{Desired, DesiredPort};

/// A port of this node, and what the topology says of it.
pub(super) struct Belongings<'a> {
    desired: &'a Desired,
    pub(super) slot: u16,
    pub(super) port: &'a DesiredPort,
}

impl<'a> Belongings<'a> {
    /// Of a port with a workload.
    pub(super) fn of(desired: &'a Desired, name: &str) -> Option<Self> {
        let workload = |port: &DesiredPort| port.name == name && port.record.flags & flags::ROUTER == 0;
        let (slot, port) = desired.ports.iter().find(|(_, port)| workload(port))?;
        Some(Self { desired, slot: *slot, port })
    }

    /// Name of its VPC.
    pub(super) fn vpc(&self) -> String {
        let vni = self.port.record.vpc;
        self.desired.names.vpcs.get(&vni).cloned().unwrap_or_else(|| format!("VNI {}", vni.0))
    }

    /// The id of a NAT gateway.
    pub(super) fn gateway(&self, name: &str) -> Option<u32> {
        let mut names = self.desired.outside.gateway_names.iter();
        names.find(|(_, other)| *other == name).map(|(id, _)| *id)
    }

    /// The name of a NAT gateway.
    pub(super) fn gateway_name(&self, id: u32) -> Option<&String> {
        self.desired.outside.gateway_names.get(&id)
    }

    /// Whether an external port is of this node's own slice.
    pub(super) fn is_own(&self, key: &ExternalPort) -> bool {
        self.external(key.address).is_some_and(|external| external.owner(key.port) == self.desired.node.id)
    }

    /// Why a mapping cannot be the port's.
    pub(super) fn check_mapping(&self, mapping: &MappingState) -> Result<(), String> {
        let MappingState { nat_gateway, protocol, internal, external, .. } = mapping;
        if ![protocol::TCP, protocol::UDP, protocol::ICMP].contains(protocol) {
            return Err(format!("NAT gateways do not translate protocol {protocol}"));
        }
        let key = external_key(*protocol, external);
        let id = self.gateway(nat_gateway).ok_or_else(|| format!("there is no NAT gateway {nat_gateway}"))?;
        let known = self.external(key.address).filter(|known| known.kind == kind::NAT && known.gateway == id);
        let known = known.ok_or_else(|| format!("{} is no address of NAT gateway {nat_gateway}", external.ip()))?;
        if known.vpc != self.port.record.vpc {
            return Err(format!("NAT gateway {nat_gateway} is of another VPC"));
        }
        if known.owner(key.port) == 0 || self.forward(&key).is_some() {
            return Err(format!("{external} is in no node's slice of NAT gateway {nat_gateway}"));
        }
        self.check_address(IpAddr::V4(*internal.ip()))
    }

    /// Why a session cannot be the port's. Its mapping, where it needs one, must be among those that go along.
    pub(super) fn check_session(
        &self,
        session: &SessionState,
        goes_along: impl Fn(&ExternalPort, &SocketAddrV4) -> bool,
    ) -> Result<(), String> {
        let SessionState { protocol, local, remote, external, state, .. } = session;
        let of_tcp = !matches!(state, FlowState::OneWay | FlowState::TwoWay);
        if of_tcp != (*protocol == protocol::TCP) {
            return Err(format!("protocol {protocol} has no state {state:?}"));
        }
        if local.is_ipv4() != remote.is_ipv4() {
            return Err("its addresses are of two families".to_owned());
        }
        self.check_address(local.ip())?;
        let Some(external) = external else { return Ok(()) };
        let IpAddr::V4(private) = local.ip() else { return Err("IPv6 is not translated".to_owned()) };
        let (key, private) = (external_key(*protocol, external), SocketAddrV4::new(private, local.port()));
        let port = Be16::new(local.port());
        let known = self.external(key.address).filter(|known| known.vpc == self.port.record.vpc);
        let stands = known.is_some_and(|known| match (known.kind, self.forward(&key)) {
            (kind::ELASTIC, _) => known.private == v4(&private) && key.port == port,
            (_, Some((forward, forwarded))) => forward == v4(&private) && forwarded == port,
            (_, None) => goes_along(&key, &private),
        });
        if stands { Ok(()) } else { Err(format!("{external} does not stand for it")) }
    }

    fn check_address(&self, address: IpAddr) -> Result<(), String> {
        let any = self.port.record.flags & flags::ROUTES_FOR_OTHERS != 0;
        let wanted = u128::from_be_bytes(Ip::from(address).bytes());
        let own =
            self.desired.sources.iter().filter(|(key, _)| key.slot.get() == u32::from(self.slot)).any(|(key, _)| {
                let length = key.prefix_len.saturating_sub(32);
                let differ = u128::from_be_bytes(key.address.bytes()) ^ wanted;
                length == 0 || differ.checked_shr(u128::BITS - length).unwrap_or_default() == 0
            });
        if own || any { Ok(()) } else { Err(format!("{address} is no address of the port")) }
    }

    fn external(&self, address: V4) -> Option<&External> {
        let externals = &self.desired.outside.externals;
        externals.binary_search_by_key(&address, |(key, _)| *key).ok().map(|at| &externals[at].1)
    }

    fn forward(&self, key: &ExternalPort) -> Option<(V4, Be16)> {
        let forwards = &self.desired.outside.forwards;
        let at = forwards.binary_search_by_key(key, |(key, _)| *key).ok()?;
        Some((forwards[at].1.private, forwards[at].1.port))
    }
}

/// An external address and port as the tables have it.
pub(super) fn external_key(protocol: u8, external: &SocketAddrV4) -> ExternalPort {
    ExternalPort { address: v4(external), protocol, reserved: 0, port: Be16::new(external.port()) }
}

/// The address of a socket as the tables have it.
pub(super) fn v4(socket: &SocketAddrV4) -> V4 {
    [Be32(socket.ip().octets()).raw()]
}

/// The inverse.
pub(super) fn socket(address: V4, port: Be16) -> SocketAddrV4 {
    SocketAddrV4::new(Be32::from_raw(address[0]).0.into(), port.get())
}
