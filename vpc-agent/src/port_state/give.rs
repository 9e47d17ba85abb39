//! Giving away: reads the state of a port, and keeps its external ports when it is gone.

use super::{
    FORMAT, FlowState, MappingState, PortState, PortStateError, SessionState, VERSION,
    belongings::{Belongings, external_key, socket},
    milliseconds,
};
use crate::{
    maps::Tables,
    neighbour,
    sweeper::{MAPPING_TICKS, has_expired, idle_ticks, tick},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, SocketAddrV4},
    sync::PoisonError,
};
use vpc_bpf::Table;
use vpc_common::{
    Be32, Ip,
    endpoint::EndpointKey,
    nat::{ExternalPort, NatIn},
    port::{Port, Timeouts},
    session::{Session, SessionKey, V4, decided},
};
use vpc_topology::compile::Desired;

/// A mapping that ends within so many ticks is not given away: it may be another's before it is kept.
const ENDING: u16 = 8;

/// What was given away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// The state.
    pub state: PortState,
    /// Sessions and mappings that are not the port's by the present topology, and so stay behind.
    pub left_behind: usize,
}

/// What was given away, and the addresses after which this node must send from now on.
#[derive(Clone, Debug, Default)]
pub struct Giving {
    /// For whoever asked.
    pub given: Given,
    /// Addresses of the guest that have mappings of this node's slices.
    pub away: BTreeSet<EndpointKey>,
}

/// Reads the state of a port. Its mappings of this node's slices are marked: they follow the guest from now on.
///
/// # Errors
/// There is no such port, or the kernel refuses a call.
pub fn give(tables: &Tables, desired: &Desired, name: &str) -> Result<Giving, PortStateError> {
    let unknown = || PortStateError::UnknownPort(name.to_owned());
    let own = Belongings::of(desired, name).ok_or_else(unknown)?;
    let record = tables.ports.get(&u32::from(own.slot))?.filter(|port| port.epoch != 0).ok_or_else(unknown)?;
    let mut giving = Giving::default();
    let now = tick();
    // The sweeper writes mappings too.
    let _alone = tables.outside.mappings_lock.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut sessions, mut used) = (Vec::new(), BTreeSet::new());
    read(&tables.sessions_v4, own.slot, &record, now, |key, session| {
        let state = session_state(key, &|a: V4| Ip::v4(Be32::from_raw(a[0])), session, now);
        used.extend(state.iter().filter_map(|state| Some(external_key(state.protocol, state.external.as_ref()?))));
        sessions.push(state);
    })?;
    read(&tables.sessions_v6, own.slot, &record, now, |key, session| {
        sessions.push(session_state(key, &Ip, session, now));
    })?;
    let mut mappings: BTreeMap<ExternalPort, SocketAddrV4> = BTreeMap::new();
    for (key, mapping) in tables.outside.nat_in.entries()? {
        if mapping.slot != own.slot {
            continue;
        }
        let idle = if used.contains(&key) { 0 } else { idle_ticks(now, mapping.last_used) };
        let state = own.gateway_name(mapping.gateway).map(|gateway| MappingState {
            nat_gateway: gateway.clone(),
            protocol: key.protocol,
            internal: socket(mapping.private, mapping.port),
            external: socket(key.address, key.port),
            idle_milliseconds: milliseconds(idle),
        });
        let state = state.filter(|state| own.check_mapping(state).is_ok() && idle + ENDING < MAPPING_TICKS);
        let Some(state) = state else {
            giving.given.left_behind += 1;
            continue;
        };
        if own.is_own(&key) {
            // An address that only a pair allows has no place in the fabric where packets could be sent after it.
            let address = Ip::v4(Be32::from_raw(mapping.private[0]));
            let address = EndpointKey { vpc: record.vpc, address };
            if desired.endpoints.binary_search_by_key(&address, |(key, _)| *key).is_err() {
                giving.given.left_behind += 1;
                continue;
            }
            tables.outside.nat_in.set(&key, &NatIn { last_used: now, kept: longest(&record.timeouts), ..mapping })?;
            giving.away.insert(address);
        }
        mappings.insert(key, state.internal);
        giving.given.state.mappings.push(state);
    }
    let goes_along = |key: &ExternalPort, private: &SocketAddrV4| mappings.get(key) == Some(private);
    let count = sessions.len();
    let mine = |session: &SessionState| own.check_session(session, goes_along).is_ok();
    let sessions: Vec<_> = sessions.into_iter().flatten().filter(mine).collect();
    giving.given.left_behind += count - sessions.len();
    giving.given.state = PortState {
        format: FORMAT.to_owned(),
        version: VERSION,
        port: name.to_owned(),
        mac: record.mac.to_string(),
        vpc: own.vpc(),
        node: desired.node.name.clone(),
        sessions,
        mappings: std::mem::take(&mut giving.given.state.mappings),
    };
    Ok(giving)
}

/// The sessions of a slot that have not expired.
fn read<A>(
    table: &Table<SessionKey<A>, Session>,
    slot: u16,
    port: &Port,
    now: u16,
    mut visit: impl FnMut(&SessionKey<A>, &Session),
) -> Result<(), PortStateError>
where
    A: Copy + 'static,
    SessionKey<A>: bytemuck::Pod,
{
    let living =
        |key: &SessionKey<A>, session: &Session| key.slot == slot && !has_expired(session, key.protocol, port, now);
    let mut unread = Ok(());
    table.for_each_batch(|keys, sessions| {
        for (key, session) in keys.iter().zip(sessions).filter(|(key, session)| living(key, session)) {
            match neighbour::completed(table, key, session) {
                Ok(session) => visit(key, &session),
                Err(error) => unread = Err(error),
            }
        }
    })?;
    Ok(unread?)
}

fn session_state<A: Copy>(
    key: &SessionKey<A>,
    ip: &impl Fn(A) -> Ip,
    session: &Session,
    now: u16,
) -> Option<SessionState> {
    let (address, port) = session.external();
    Some(SessionState {
        protocol: key.protocol,
        local: SocketAddr::new(ip(key.local).into(), key.local_port.get()),
        remote: SocketAddr::new(ip(key.remote).into(), key.remote_port.get()),
        external: (address != [0]).then(|| socket(address, port)),
        state: FlowState::of(session.state)?,
        opened_by_guest: session.decided & decided::OPENED_HERE != 0,
        outlives_rule: session.decided & decided::KEEP != 0,
        guest_fin: session.decided & decided::GUEST_FIN != 0,
        peer_fin: session.decided & decided::PEER_FIN != 0,
        guest_expects: session.guest_expects,
        peer_expects: session.peer_expects,
        idle_milliseconds: milliseconds(idle_ticks(now, session.last_seen)),
        age_milliseconds: milliseconds(idle_ticks(now, session.opened)),
        sent_packets: session.sent_packets,
        sent_bytes: session.sent_bytes,
        received_packets: session.received_packets,
        received_bytes: session.received_bytes,
    })
}

/// How long a mapping may be in use without a packet: as long as the longest session, and then as any mapping.
fn longest(timeouts: &Timeouts) -> u16 {
    let Timeouts { tcp_half_open, tcp_established, tcp_closing, one_way, two_way, icmp } = *timeouts;
    let all = [tcp_half_open, tcp_established, tcp_closing, one_way, two_way, icmp];
    all.into_iter().max().unwrap_or_default().saturating_add(MAPPING_TICKS + ENDING)
}
