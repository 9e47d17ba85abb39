//! A session in words.

use super::{
    lenders::Lenders,
    owners::{Owner, Owners},
};
use crate::{control::report::SessionRow, reconcile::Reconciler, sweeper::idle_seconds};
use std::{collections::BTreeMap, net::SocketAddr};
use vpc_common::{
    Be32,
    nat::ExternalPort,
    session::{Hop, Session, decided, state},
};

/// What the numbers of sessions mean.
#[derive(Default)]
pub(super) struct Words {
    pub owners: Owners,
    nodes: BTreeMap<u16, String>,
    rules: BTreeMap<u32, String>,
    lenders: Lenders,
}

impl Words {
    pub(super) fn new(reconciler: &Reconciler, owners: Owners) -> Self {
        let Some(desired) = reconciler.desired() else { return Self { owners, ..Self::default() } };
        let mut nodes = BTreeMap::from([(desired.node.id, desired.node.name.clone())]);
        nodes.extend(desired.vteps.iter().map(|vtep| (vtep.id, vtep.name.clone())));
        let lenders = Lenders::new(desired.node.id, &reconciler.actual().outside.shared);
        Self { owners, nodes, rules: desired.names.rules.clone(), lenders }
    }

    pub(super) fn row(&self, owner: &Owner, flow: &Flow, session: &Session, now: u16) -> SessionRow {
        SessionRow {
            port: owner.name.clone(),
            vpc: owner.vpc.clone(),
            protocol: protocol(flow.protocol),
            local: flow.local.to_string(),
            remote: flow.remote.to_string(),
            external: external(session).map(|external| external.to_string()).unwrap_or_default(),
            egress: self.egress(flow, session),
            ingress: self.ingress(session),
            state: state_name(session.state).to_owned(),
            opened_by: if session.decided & decided::OPENED_HERE != 0 { "guest" } else { "peer" }.to_owned(),
            rule: self.rule(session.rule),
            decision: if flow.current { "current" } else { "stale" }.to_owned(),
            idle_seconds: idle_seconds(now, session.last_seen),
            sent_packets: session.sent_packets.into(),
            sent_bytes: session.sent_bytes,
            received_packets: session.received_packets.into(),
            received_bytes: session.received_bytes,
        }
    }

    fn egress(&self, flow: &Flow, session: &Session) -> String {
        if session.decided & decided::EGRESS == 0 {
            return String::new();
        }
        let hop = Hop { way: session.way.behind_offload(), ..session.hop() };
        if hop.way.is_external() {
            return if hop.way.is_hairpin() { "to an external address here" } else { "out of this gateway" }.to_owned();
        }
        if hop.way.is_translated() && self.lenders.of(&external_port(flow, session)) == Some(hop.target) {
            let (node, vni) = (self.node(hop.target), hop.way.vni().0);
            return format!("by node {node}, which lent the external port, in VNI {vni}");
        }
        if hop.way.is_translated() && !hop.way.is_hairpin() {
            return format!("by gateway {} in VNI {}", self.node(hop.target), hop.way.vni().0);
        }
        let routed = if hop.way.is_routed() { "routed " } else { "" };
        if hop.way.is_tunnel() {
            format!("{routed}to node {} in VNI {}", self.node(hop.target), hop.way.vni().0)
        } else {
            let port = self.owners.of(hop.target).map_or("?", |port| port.name.as_str());
            format!("{routed}to port {port}")
        }
    }

    fn ingress(&self, session: &Session) -> String {
        if session.decided & decided::INGRESS == 0 {
            return String::new();
        }
        if session.ingress_vtep == 0 { "this node".to_owned() } else { self.node(session.ingress_vtep) }
    }

    fn rule(&self, number: u32) -> String {
        if number == 0 {
            return String::new();
        }
        self.rules.get(&number).cloned().unwrap_or_else(|| format!("rule {number}"))
    }

    fn node(&self, id: u16) -> String {
        self.nodes.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

/// A session's flow, as the guest sees it.
pub(super) struct Flow {
    pub protocol: u8,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// Whether its session was decided under the port's present epoch.
    pub current: bool,
}

/// The external address and port of a session.
pub(super) fn external(session: &Session) -> Option<SocketAddr> {
    let (address, port) = session.external();
    (address != [0]).then(|| SocketAddr::new(Be32::from_raw(address[0]).0.into(), port.get()))
}

/// The same as a key of the tables of external ports.
fn external_port(flow: &Flow, session: &Session) -> ExternalPort {
    let (address, port) = session.external();
    ExternalPort { address, protocol: flow.protocol, reserved: 0, port }
}

/// The state of a session in a word.
fn state_name(number: u8) -> &'static str {
    match number {
        state::OPENING => "syn-sent",
        state::ANSWERED => "syn-received",
        state::ESTABLISHED => "established",
        state::CLOSING => "closing",
        state::CLOSED => "closed",
        state::ONE_WAY => "one-way",
        state::TWO_WAY => "two-way",
        _ => "unknown",
    }
}

/// The name of a protocol; the number where it has none.
pub(super) fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmp6".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maps::outside::Shared;
    use std::sync::Arc;
    use vpc_common::{
        Be16, Vni,
        nat::{External, kind},
        session::Way,
    };

    const NAT: Be32 = Be32([203, 0, 113, 10]);

    /// Of node 2; the nodes 1 and 2 have slices of 1,000 ports from 2,000 on.
    fn words() -> Words {
        let external = External {
            kind: kind::NAT,
            node: 1,
            first_port: 2_000,
            slice_ports: 1_000,
            slices: 2,
            ..External::default()
        };
        let shared = Shared { externals: Arc::new(vec![([NAT.raw()], external)]), ..Shared::default() };
        let nodes = [(1, "hv1".to_owned()), (2, "hv2".to_owned()), (3, "hv3".to_owned())].into();
        Words { nodes, lenders: Lenders::new(2, &shared), ..Words::default() }
    }

    /// Where a session with such an external port goes, as `vpcctl sessions` says it.
    fn egress(external_port: u16, target: u16, way: Way) -> String {
        let end = SocketAddr::from(([10, 0, 2, 10], 4_000));
        let flow = Flow { protocol: 17, local: end, remote: end, current: true };
        let way = way.with(Way::ROUTED).with(Way::TRANSLATED).in_network(Vni(5_001));
        let mut session = Session { decided: decided::EGRESS, target, way, ..Session::default() };
        session.set_external([NAT.raw()], Be16::new(external_port));
        words().egress(&flow, &session)
    }

    #[test]
    fn a_node_that_lent_the_external_port_is_no_gateway() {
        let lent = "by node hv1, which lent the external port, in VNI 5001";
        assert_eq!(egress(2_500, 1, Way::TUNNEL), lent);
        assert_eq!(egress(2_500, 1, Way::TUNNEL.with(Way::HAIRPIN)), lent);
        // By a port of its own slice, also where the other node is a gateway.
        assert_eq!(egress(3_500, 3, Way::TUNNEL), "by gateway hv3 in VNI 5001");
        assert_eq!(egress(3_500, 1, Way::TUNNEL), "by gateway hv1 in VNI 5001");
        assert_eq!(egress(3_500, 1, Way::TUNNEL.with(Way::HAIRPIN)), "routed to node hv1 in VNI 5001");
    }
}
