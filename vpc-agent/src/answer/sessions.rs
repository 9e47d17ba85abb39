//! Sessions in words.

use super::owners::{Owner, Owners};
use crate::{
    control::{
        SessionFilter,
        report::{Flushed, SessionRow},
    },
    maps::tables::Sessions,
    reconcile::Reconciler,
    sweeper::{idle_seconds, tick},
};
use std::{collections::BTreeMap, net::SocketAddr};
use vpc_bpf::{Table, TableError};
use vpc_common::{
    Be32, Ip,
    session::{Hop, Session, SessionKey, V4, V6, decided, state},
};

/// The sessions that a filter chooses, to be read or removed away from the agent's loop.
pub(super) struct Chosen {
    v4: Sessions<V4>,
    v6: Sessions<V6>,
    owners: Owners,
    nodes: BTreeMap<u16, String>,
    rules: BTreeMap<u32, String>,
}

impl Chosen {
    pub(super) fn new(reconciler: &Reconciler, filter: &SessionFilter) -> Result<Self, String> {
        let tables = &reconciler.datapath.tables;
        let clone = |error: TableError| error.to_string();
        let desired = reconciler.desired();
        let owners = Owners::new(reconciler, filter)?;
        let mut nodes = BTreeMap::new();
        if let Some(desired) = desired {
            nodes.insert(desired.node.id, desired.node.name.clone());
            nodes.extend(desired.vteps.iter().map(|vtep| (vtep.id, vtep.name.clone())));
        }
        Ok(Self {
            v4: tables.sessions_v4.try_clone().map_err(clone)?,
            v6: tables.sessions_v6.try_clone().map_err(clone)?,
            owners,
            nodes,
            rules: desired.map(|desired| desired.names.rules.clone()).unwrap_or_default(),
        })
    }

    /// At most so many of them in words; 0 for all.
    pub(super) fn read(&self, limit: usize) -> Result<Vec<SessionRow>, String> {
        let (limit, now) = (if limit == 0 { usize::MAX } else { limit }, tick());
        let mut rows = Vec::new();
        let mut add = |owner: &Owner, flow: Flow, session: &Session| {
            if rows.len() < limit {
                rows.push(self.row(owner, &flow, session, now));
            }
        };
        self.each(&self.v4, v4, |owner, _, flow, session| add(owner, flow, session))?;
        self.each(&self.v6, Ip, |owner, _, flow, session| add(owner, flow, session))?;
        rows.sort_by(|a, b| {
            (&a.port, &a.protocol, &a.local, &a.remote).cmp(&(&b.port, &b.protocol, &b.local, &b.remote))
        });
        Ok(rows)
    }

    /// Removes them: the next packet of each flow is decided like a first one. What ports have used of their quotas
    /// is corrected by the next sweep.
    pub(super) fn flush(&self) -> Result<Flushed, String> {
        let sessions = self.flush_family(&self.v4, v4)? + self.flush_family(&self.v6, Ip)?;
        Ok(Flushed { sessions })
    }

    fn flush_family<A>(&self, table: &Table<SessionKey<A>, Session>, ip: impl Fn(A) -> Ip) -> Result<usize, String>
    where
        A: Copy + 'static,
        SessionKey<A>: bytemuck::Pod,
    {
        let mut keys = Vec::new();
        self.each(table, ip, |_, key, _, _| keys.push(*key))?;
        table.delete_all(&keys).map_err(|error| error.to_string())?;
        Ok(keys.len())
    }

    fn each<A>(
        &self,
        table: &Table<SessionKey<A>, Session>,
        ip: impl Fn(A) -> Ip,
        mut visit: impl FnMut(&Owner, &SessionKey<A>, Flow, &Session),
    ) -> Result<(), String>
    where
        A: Copy + 'static,
        SessionKey<A>: bytemuck::Pod,
    {
        let batch = |keys: &[SessionKey<A>], values: &[Session]| {
            for (key, session) in keys.iter().zip(values) {
                let local = SocketAddr::new(ip(key.local).into(), key.local_port.get());
                let remote = SocketAddr::new(ip(key.remote).into(), key.remote_port.get());
                let addresses = [Some(local.ip()), Some(remote.ip()), external(session).map(|external| external.ip())];
                if let Some(owner) = self.owners.chosen(key.slot, &addresses) {
                    visit(owner, key, Flow { protocol: key.protocol, local, remote }, session);
                }
            }
        };
        table.for_each_batch(batch).map_err(|error| error.to_string())
    }

    fn row(&self, owner: &Owner, flow: &Flow, session: &Session, now: u16) -> SessionRow {
        SessionRow {
            port: owner.name.clone(),
            vpc: owner.vpc.clone(),
            protocol: protocol(flow.protocol),
            local: flow.local.to_string(),
            remote: flow.remote.to_string(),
            external: external(session).map(|external| external.to_string()).unwrap_or_default(),
            egress: self.egress(session),
            ingress: self.ingress(session),
            state: state_name(session.state).to_owned(),
            opened_by: if session.decided & decided::OPENED_HERE != 0 { "guest" } else { "peer" }.to_owned(),
            rule: self.rule(session.rule),
            decision: if session.epoch == owner.epoch { "current" } else { "stale" }.to_owned(),
            idle_seconds: idle_seconds(now, session.last_seen),
            sent_packets: session.sent_packets.into(),
            sent_bytes: session.sent_bytes,
            received_packets: session.received_packets.into(),
            received_bytes: session.received_bytes,
        }
    }

    fn egress(&self, session: &Session) -> String {
        if session.decided & decided::EGRESS == 0 {
            return String::new();
        }
        let hop = Hop { way: session.egress.way.behind_offload(), ..session.egress };
        if hop.way.is_external() {
            return if hop.way.is_hairpin() { "to an external address here" } else { "out of this gateway" }.to_owned();
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
struct Flow {
    protocol: u8,
    local: SocketAddr,
    remote: SocketAddr,
}

/// The external address and port of a session.
fn external(session: &Session) -> Option<SocketAddr> {
    let given = session.external != Be32::default();
    given.then(|| SocketAddr::new(session.external.0.into(), session.external_port.get()))
}

fn v4(address: V4) -> Ip {
    Ip::v4(Be32::from_raw(address[0]))
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
