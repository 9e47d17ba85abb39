//! Sessions in words.

use crate::{
    control::{SessionFilter, report::SessionRow},
    maps::tables::Sessions,
    reconcile::Reconciler,
    sweeper::{idle_seconds, tick},
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};
use vpc_bpf::{Table, TableError};
use vpc_common::{
    Be32, Ip,
    session::{Session, SessionKey, V4, V6, decided, state},
};

/// Reads sessions away from the agent's loop.
pub(super) struct Reader {
    v4: Sessions<V4>,
    v6: Sessions<V6>,
    /// Name and epoch of each slot.
    ports: BTreeMap<u16, (String, u32)>,
    nodes: BTreeMap<u16, String>,
    rules: BTreeMap<u32, String>,
}

impl Reader {
    pub(super) fn new(reconciler: &Reconciler) -> Result<Self, String> {
        let tables = &reconciler.datapath.tables;
        let clone = |error: TableError| error.to_string();
        let desired = reconciler.desired();
        let name = |slot: &u16| desired.and_then(|desired| desired.ports.get(slot)).map(|port| port.name.clone());
        let ports = reconciler
            .actual()
            .ports
            .iter()
            .map(|(slot, port)| (*slot, (name(slot).unwrap_or_else(|| format!("slot {slot}")), port.epoch)));
        let mut nodes = BTreeMap::new();
        if let Some(desired) = desired {
            nodes.insert(desired.node.id, desired.node.name.clone());
            nodes.extend(desired.vteps.iter().map(|vtep| (vtep.id, vtep.name.clone())));
        }
        Ok(Self {
            v4: tables.sessions_v4.try_clone().map_err(clone)?,
            v6: tables.sessions_v6.try_clone().map_err(clone)?,
            ports: ports.collect(),
            nodes,
            rules: desired.map(|desired| desired.names.rules.clone()).unwrap_or_default(),
        })
    }

    pub(super) fn read(&self, filter: &SessionFilter) -> Result<Vec<SessionRow>, String> {
        let mut rows = Vec::new();
        self.family(&self.v4, filter, |address| Ip::v4(Be32::from_raw(address[0])), &mut rows)?;
        self.family(&self.v6, filter, Ip, &mut rows)?;
        rows.sort_by(|a, b| {
            (&a.port, &a.protocol, &a.local, &a.remote).cmp(&(&b.port, &b.protocol, &b.local, &b.remote))
        });
        Ok(rows)
    }

    fn family<A>(
        &self,
        table: &Table<SessionKey<A>, Session>,
        filter: &SessionFilter,
        ip: impl Fn(A) -> Ip,
        rows: &mut Vec<SessionRow>,
    ) -> Result<(), String>
    where
        A: Copy + 'static,
        SessionKey<A>: bytemuck::Pod,
    {
        let (limit, now) = (if filter.limit == 0 { usize::MAX } else { filter.limit }, tick());
        let visit = |keys: &[SessionKey<A>], values: &[Session]| {
            for (key, session) in keys.iter().zip(values) {
                let (local, remote) = (IpAddr::from(ip(key.local)), IpAddr::from(ip(key.remote)));
                let Some((port, epoch)) = self.ports.get(&key.slot) else { continue };
                let wanted = filter.port.as_ref().is_none_or(|wanted| wanted == port)
                    && filter.address.is_none_or(|wanted| wanted == local || wanted == remote);
                if wanted && rows.len() < limit {
                    rows.push(SessionRow {
                        port: port.clone(),
                        protocol: protocol(key.protocol),
                        local: SocketAddr::new(local, key.local_port.get()).to_string(),
                        remote: SocketAddr::new(remote, key.remote_port.get()).to_string(),
                        egress: self.egress(session),
                        ingress: self.ingress(session),
                        state: state_name(session.state).to_owned(),
                        opened_by: if session.decided & decided::OPENED_HERE != 0 { "guest" } else { "peer" }
                            .to_owned(),
                        rule: self.rule(session.rule),
                        decision: if session.epoch == *epoch { "current" } else { "stale" }.to_owned(),
                        idle_seconds: idle_seconds(now, session.last_seen),
                        sent_packets: session.sent_packets.into(),
                        sent_bytes: session.sent_bytes,
                        received_packets: session.received_packets.into(),
                        received_bytes: session.received_bytes,
                    });
                }
            }
        };
        table.for_each_batch(visit).map_err(|error| error.to_string())
    }

    fn egress(&self, session: &Session) -> String {
        if session.decided & decided::EGRESS == 0 {
            return String::new();
        }
        let hop = &session.egress;
        let routed = if hop.way.is_routed() { "routed " } else { "" };
        if hop.way.is_tunnel() {
            format!("{routed}to node {} in VNI {}", self.node(hop.target), hop.way.vni().0)
        } else {
            let port = self.ports.get(&hop.target).map_or("?", |(name, _)| name.as_str());
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

fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmp6".to_owned(),
        other => other.to_string(),
    }
}
