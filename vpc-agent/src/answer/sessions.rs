//! The sessions that an operator asks for.

use super::{
    owners::{Owner, Owners},
    words::{Flow, Words, external},
};
use crate::{
    control::{
        SessionFilter,
        report::{Flushed, SessionRow},
    },
    maps::tables::Sessions,
    neighbour,
    reconcile::Reconciler,
    sweeper::tick,
    usage::UsageTables,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};
use vpc_bpf::{Table, TableError};
use vpc_common::{
    Be32, Ip,
    port::Usage,
    session::{Session, SessionKey, V4, V6},
};
use vpc_datapath::conntrack::is_half_open;

/// The sessions that a filter chooses, to be read or removed away from the agent's loop.
pub(super) struct Chosen {
    v4: Sessions<V4>,
    v6: Sessions<V6>,
    usage: UsageTables,
    words: Words,
}

impl Chosen {
    pub(super) fn new(reconciler: &Reconciler, filter: &SessionFilter) -> Result<Self, String> {
        let tables = &reconciler.datapath.tables;
        let clone = |error: TableError| error.to_string();
        Ok(Self {
            v4: tables.sessions_v4.try_clone().map_err(clone)?,
            v6: tables.sessions_v6.try_clone().map_err(clone)?,
            usage: UsageTables::new(tables).map_err(clone)?,
            words: Words::new(reconciler, Owners::new(reconciler, filter)?),
        })
    }

    /// At most so many of them in words; 0 for all.
    pub(super) fn read(&self, limit: usize) -> Result<Vec<SessionRow>, String> {
        let (limit, now) = (if limit == 0 { usize::MAX } else { limit }, tick());
        let mut rows = Vec::new();
        self.read_family(&self.v4, v4, (limit, now), &mut rows)?;
        self.read_family(&self.v6, Ip, (limit, now), &mut rows)?;
        rows.sort_by(|a, b| {
            (&a.port, &a.protocol, &a.local, &a.remote).cmp(&(&b.port, &b.protocol, &b.local, &b.remote))
        });
        Ok(rows)
    }

    fn read_family<A>(
        &self,
        table: &Table<SessionKey<A>, Session>,
        ip: impl Fn(A) -> Ip,
        (limit, now): (usize, u16),
        rows: &mut Vec<SessionRow>,
    ) -> Result<(), String>
    where
        A: Copy + AsRef<[u32]> + 'static,
        SessionKey<A>: bytemuck::Pod,
    {
        let mut unread = Ok(());
        self.each(table, ip, |owner, key, flow, session| {
            if rows.len() >= limit {
                return;
            }
            match neighbour::completed(table, key, session) {
                Ok(session) => rows.push(self.words.row(owner, &flow, &session, now)),
                Err(error) => unread = Err(error.to_string()),
            }
        })?;
        unread
    }

    /// Removes them, and of flows that stay on the node the other port's session too: the next packet of each flow is
    /// decided like a first one.
    pub(super) fn flush(&self) -> Result<Flushed, String> {
        let mut removed = BTreeMap::new();
        let sessions =
            self.flush_family(&self.v4, v4, &mut removed)? + self.flush_family(&self.v6, Ip, &mut removed)?;
        self.usage.give_back(&removed).map_err(|error| error.to_string())?;
        Ok(Flushed { sessions })
    }

    fn flush_family<A>(
        &self,
        table: &Table<SessionKey<A>, Session>,
        ip: impl Fn(A) -> Ip,
        removed: &mut BTreeMap<u16, Usage>,
    ) -> Result<usize, String>
    where
        A: Copy + Ord + AsRef<[u32]> + 'static,
        SessionKey<A>: bytemuck::Pod,
    {
        let (mut chosen, mut others) = (BTreeMap::new(), BTreeSet::new());
        self.each(table, ip, |_, key, _, session| {
            chosen.insert(*key, is_half_open(session.state));
            others.extend(neighbour::other_key(key, session));
        })?;
        for key in others {
            if let Some(session) = table.get(&key).map_err(|error| error.to_string())? {
                chosen.insert(key, is_half_open(session.state));
            }
        }
        let keys: Vec<_> = chosen.keys().copied().collect();
        table.delete_all(&keys).map_err(|error| error.to_string())?;
        for (key, half_open) in &chosen {
            let usage = removed.entry(key.slot).or_default();
            usage.sessions += 1;
            usage.half_open += u32::from(*half_open);
        }
        Ok(keys.len())
    }

    fn each<A>(
        &self,
        table: &Table<SessionKey<A>, Session>,
        ip: impl Fn(A) -> Ip,
        mut visit: impl FnMut(&Owner, &SessionKey<A>, Flow, &Session),
    ) -> Result<(), String>
    where
        A: Copy + AsRef<[u32]> + 'static,
        SessionKey<A>: bytemuck::Pod,
    {
        let batch = |keys: &[SessionKey<A>], values: &[Session]| {
            for (key, session) in keys.iter().zip(values) {
                let local = SocketAddr::new(ip(key.local).into(), key.local_port.get());
                let remote = SocketAddr::new(ip(key.remote).into(), key.remote_port.get());
                let addresses = [Some(local.ip()), Some(remote.ip()), external(session).map(|external| external.ip())];
                if let Some(owner) = self.words.owners.chosen(key.slot, &addresses) {
                    let current = session.seal == key.seal(owner.epoch);
                    visit(owner, key, Flow { protocol: key.protocol, local, remote, current }, session);
                }
            }
        };
        table.for_each_batch(batch).map_err(|error| error.to_string())
    }
}

fn v4(address: V4) -> Ip {
    Ip::v4(Be32::from_raw(address[0]))
}
