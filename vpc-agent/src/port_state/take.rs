//! Taking over: checks the whole state of a port against the topology in force, then writes it, or nothing.

use super::{
    FORMAT, MappingState, Mismatches, PortState, PortStateError, SessionState, VERSION,
    belongings::{Belongings, external_key, v4},
    ticks,
};
use crate::{maps::Tables, sweeper::tick};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr, SocketAddrV4},
    sync::PoisonError,
};
use vpc_bpf::{Table, TableError};
use vpc_common::{
    Be16, Be32, Ip,
    nat::{ExternalPort, NatIn, NatOut, NatOutKey},
    port::{Port, Usage},
    session::{Session, SessionKey, V4, V6},
};
use vpc_datapath::conntrack;
use vpc_topology::compile::Desired;

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is all there.
    Taken(Taken),
    /// The topology in force has no such port on this node yet.
    NotYet,
}

/// What was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Sessions.
    pub sessions: usize,
    /// NAT mappings.
    pub mappings: usize,
    /// Sessions that would have expired by the timeouts in force here, and so were left out.
    pub expired: usize,
}

/// What is to be written.
#[derive(Default)]
struct Writes {
    v4: Vec<(SessionKey<V4>, Session)>,
    v6: Vec<(SessionKey<V6>, Session)>,
    nat_in: Vec<(ExternalPort, NatIn)>,
    nat_out: Vec<(NatOutKey, NatOut)>,
    half_open: u32,
    expired: usize,
}

/// Reads what [`super::give`] gave. The version is looked at before the rest.
///
/// # Errors
/// It is something else.
fn parse(text: &serde_json::Value) -> Result<PortState, PortStateError> {
    let wrong = |why: &str| PortStateError::Format(why.to_owned());
    if text.get("format").and_then(serde_json::Value::as_str) != Some(FORMAT) {
        return Err(wrong("its `format` says something else"));
    }
    match text.get("version").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(VERSION) => {}
        Some(version) => return Err(PortStateError::Format(format!("it is of version {version}"))),
        None => return Err(wrong("its `version` is no number")),
    }
    serde_json::from_value(text.clone()).map_err(|error| PortStateError::Format(error.to_string()))
}

/// Takes over the state of a port, all of it or nothing.
///
/// # Errors
/// It is no port state, it does not fit, or the kernel refuses a call.
pub fn take(tables: &Tables, desired: &Desired, text: &serde_json::Value) -> Result<Outcome, PortStateError> {
    let state = parse(text)?;
    let Some(own) = Belongings::of(desired, &state.port) else { return Ok(Outcome::NotYet) };
    let index = u32::from(own.slot);
    let record = tables.ports.get(&index)?.filter(|port| port.epoch != 0 && port.uid == own.port.record.uid);
    let Some(record) = record else { return Ok(Outcome::NotYet) };
    let _alone = tables.outside.mappings_lock.lock().unwrap_or_else(PoisonError::into_inner);
    let mut mismatches = check(&state, &own);
    let writes = writes(&state, &own, &record);
    for (key, mapping) in &writes.nat_in {
        let there = tables.outside.nat_in.get(key)?;
        let same = |there: &NatIn| {
            (there.gateway, there.private, there.port) == (mapping.gateway, mapping.private, mapping.port)
                && (there.kept != 0 || there.slot == own.slot)
        };
        if there.is_some_and(|there| !same(&there)) {
            let port = super::belongings::socket(key.address, key.port);
            mismatches.push(format!("mapping {port}: another mapping of this node has it"));
        }
    }
    let sessions = (writes.v4.len() + writes.v6.len()) as u32;
    let usage = tables.port_usage.get(&index)?.unwrap_or_default();
    let of_vpc = tables.vpc_usage.get(&record.vpc_index)?.unwrap_or_default();
    let half_open_quota = conntrack::half_open_quota(record.session_quota);
    for (what, there, more, quota) in [
        ("sessions of the port", usage.sessions, sessions, record.session_quota),
        ("half-open sessions of the port", usage.half_open, writes.half_open, half_open_quota),
        ("sessions of the VPC on this node", of_vpc.sessions, sessions, record.vpc_quota),
    ] {
        if more > 0 && there.saturating_add(more) > quota {
            mismatches.push(format!("{what}: {there} there, {more} to come, {quota} allowed"));
        }
    }
    if !mismatches.is_empty() {
        return Err(PortStateError::Mismatch { port: state.port, mismatches: Mismatches(mismatches) });
    }
    if let Err(error) = write(tables, &writes) {
        // Half of a state is worth less than none. What cannot be undone expires.
        let _expires = undo(tables, &writes);
        return Err(error.into());
    }
    let more =
        |usage: Usage| Usage { sessions: usage.sessions + sessions, half_open: usage.half_open + writes.half_open };
    // The sweeper corrects what the datapath counted in this very moment.
    tables.port_usage.set(&index, &more(usage))?;
    tables.vpc_usage.set(&record.vpc_index, &Usage { sessions: of_vpc.sessions + sessions, ..of_vpc })?;
    Ok(Outcome::Taken(Taken { sessions: sessions as usize, mappings: writes.nat_in.len(), expired: writes.expired }))
}

/// Everything of a state that is not the port's.
fn check(state: &PortState, own: &Belongings<'_>) -> Vec<String> {
    let mut mismatches = Vec::new();
    let record = &own.port.record;
    if state.mac != record.mac.to_string() {
        mismatches.push(format!("the port's MAC is {}, not {}", record.mac, state.mac));
    }
    if state.vpc != own.vpc() {
        mismatches.push(format!("the port is in VPC {}, not {}", own.vpc(), state.vpc));
    }
    let mut mappings: BTreeMap<ExternalPort, SocketAddrV4> = BTreeMap::new();
    let mut internals = BTreeSet::new();
    for mapping in &state.mappings {
        let MappingState { protocol, internal, external, nat_gateway, .. } = mapping;
        let twice = mappings.insert(external_key(*protocol, external), *internal).is_some()
            | !internals.insert((nat_gateway, *protocol, *internal));
        let checked = if twice { Err("it is there twice".to_owned()) } else { own.check_mapping(mapping) };
        mismatches.extend(checked.err().map(|why| format!("mapping {internal} as {external}: {why}")));
    }
    let goes_along = |key: &ExternalPort, private: &SocketAddrV4| mappings.get(key) == Some(private);
    let mut flows = BTreeSet::new();
    for session in &state.sessions {
        let SessionState { protocol, local, remote, .. } = session;
        let twice = !flows.insert((*protocol, *local, *remote));
        let checked = if twice { Err("it is there twice".to_owned()) } else { own.check_session(session, goes_along) };
        mismatches.extend(checked.err().map(|why| format!("session {local} to {remote}: {why}")));
    }
    mismatches
}

/// What a state comes to in the maps of this node.
fn writes(state: &PortState, own: &Belongings<'_>, record: &Port) -> Writes {
    let (mut writes, now) = (Writes::default(), tick());
    for mapping in &state.mappings {
        let gateway = own.gateway(&mapping.nat_gateway).unwrap_or_default();
        let (private, port) = (v4(&mapping.internal), Be16::new(mapping.internal.port()));
        let key = external_key(mapping.protocol, &mapping.external);
        let last_used = now.wrapping_sub(ticks(mapping.idle_milliseconds).min(crate::sweeper::MAPPING_TICKS));
        let slot = own.slot;
        let mapping = NatIn { gateway, private, slot, port, last_used, kept: 0 };
        writes.nat_in.push((key, mapping));
        writes.nat_out.push(mapping.way_out(&key));
    }
    for session in &state.sessions {
        let number = session.state.number();
        let idle = ticks(session.idle_milliseconds);
        if idle > conntrack::timeout(&record.timeouts, session.protocol, number) {
            writes.expired += 1;
            continue;
        }
        writes.half_open += u32::from(conntrack::is_half_open(number));
        let mut value = Session {
            last_seen: now.wrapping_sub(idle),
            opened: now.wrapping_sub(ticks(session.age_milliseconds)),
            decided: session.flags(),
            state: number,
            guest_expects: session.guest_expects,
            peer_expects: session.peer_expects,
            sent_packets: session.sent_packets,
            received_packets: session.received_packets,
            sent_bytes: session.sent_bytes,
            received_bytes: session.received_bytes,
            ..Session::default()
        };
        if let Some(external) = session.external {
            value.set_external([Be32(external.ip().octets()).raw()], Be16::new(external.port()));
        }
        match (session.local, session.remote) {
            (SocketAddr::V4(local), SocketAddr::V4(remote)) => {
                writes.v4.push(undecided(key(session, own.slot, v4(&local), v4(&remote)), value));
            }
            _ => {
                let key = key(session, own.slot, v6(session.local.ip()), v6(session.remote.ip()));
                writes.v6.push(undecided(key, value));
            }
        }
    }
    writes
}

/// Under the epoch of no port: the next packet of either side is decided under what holds here.
fn undecided<A: AsRef<[u32]>>(key: SessionKey<A>, session: Session) -> (SessionKey<A>, Session) {
    let seal = key.seal(0);
    (key, Session { seal, ..session })
}

fn key<A>(session: &SessionState, slot: u16, local: A, remote: A) -> SessionKey<A> {
    SessionKey {
        slot,
        protocol: session.protocol,
        reserved: 0,
        local_port: Be16::new(session.local.port()),
        remote_port: Be16::new(session.remote.port()),
        local,
        remote,
    }
}

fn v6(address: IpAddr) -> V6 {
    Ip::from(address).0
}

/// Mappings before the sessions that rest on them, and what leads from outside before what leads there.
fn write(tables: &Tables, writes: &Writes) -> Result<(), TableError> {
    tables.outside.nat_in.set_all(&writes.nat_in)?;
    tables.outside.nat_out.set_all(&writes.nat_out)?;
    tables.sessions_v4.set_all(&writes.v4)?;
    tables.sessions_v6.set_all(&writes.v6)
}

fn undo(tables: &Tables, writes: &Writes) -> Result<(), TableError> {
    delete(&tables.sessions_v6, &writes.v6)?;
    delete(&tables.sessions_v4, &writes.v4)?;
    delete(&tables.outside.nat_out, &writes.nat_out)?;
    delete(&tables.outside.nat_in, &writes.nat_in)
}

fn delete<K: bytemuck::Pod, V: bytemuck::Pod>(table: &Table<K, V>, entries: &[(K, V)]) -> Result<(), TableError> {
    let keys: Vec<K> = entries.iter().map(|(key, _)| *key).collect();
    table.delete_all(&keys)
}
