//! Handles of the maps, and reading what they hold.

use super::{
    image::{Image, Shared},
    outside::OutsideTables,
};
use bytemuck::Pod;
use std::sync::Arc;
use vpc_bpf::{LoadError, Loaded, PerCpuTable, Readers, Table, TableError};
use vpc_common::{
    Ip,
    counters::{Counters, Drops},
    endpoint::{Endpoint, EndpointKey, MacEntry, MacKey},
    locate::LocateBucket,
    maps,
    node::Node,
    policy::{HostKey, IdentityKey, RuleKey, RuleVerdict, Subject, SubjectKey},
    port::{FloodKey, FloodMember, Port, PortBuckets, SourceKey, Usage},
    route::{Route, RouteKey},
    session::{Session, SessionKey, V4, V6},
    vtep::{Vtep, VtepId},
};

/// Sessions of one address family.
pub type Sessions<A> = Table<SessionKey<A>, Session>;

/// Index of the interface, and no program to run there.
pub type DeviceEntry = [u32; 2];

/// Every map that the agent reads or writes.
#[derive(Debug)]
pub struct Tables {
    /// See [`maps::NODE`].
    pub node: Table<u32, Node>,
    /// See [`maps::LOCATE`].
    pub locate: Table<u32, LocateBucket>,
    /// See [`maps::PORTS`].
    pub ports: Table<u32, Port>,
    /// See [`maps::PORT_DEVICES`].
    pub devices: Table<u32, DeviceEntry>,
    /// See [`maps::SOURCES`].
    pub sources: Table<SourceKey, u32>,
    /// See [`maps::PORT_BUCKETS`].
    pub buckets: Table<u32, PortBuckets>,
    /// See [`maps::ENDPOINTS`].
    pub endpoints: Table<EndpointKey, Endpoint>,
    /// See [`maps::MACS`].
    pub macs: Table<MacKey, MacEntry>,
    /// See [`maps::ROUTES`].
    pub routes: Table<RouteKey, Route>,
    /// See [`maps::VTEPS`].
    pub vteps: Table<u32, Vtep>,
    /// See [`maps::VTEP_IDS`].
    pub vtep_ids: Table<Ip, VtepId>,
    /// See [`maps::FLOOD`].
    pub flood: Table<FloodKey, FloodMember>,
    /// See [`maps::HOSTS`].
    pub hosts: Table<HostKey, Subject>,
    /// See [`maps::SUBJECTS`].
    pub subjects: Table<SubjectKey, Subject>,
    /// See [`maps::IDENTITIES`].
    pub identities: Table<IdentityKey, Subject>,
    /// See [`maps::RULES`].
    pub rules: Table<RuleKey, RuleVerdict>,
    /// See [`maps::SESSIONS_V4`].
    pub sessions_v4: Sessions<V4>,
    /// See [`maps::SESSIONS_V6`].
    pub sessions_v6: Sessions<V6>,
    /// The way to the outside.
    pub outside: OutsideTables,
    /// See [`maps::PORT_USAGE`].
    pub port_usage: Table<u32, Usage>,
    /// See [`maps::VPC_USAGE`].
    pub vpc_usage: Table<u32, Usage>,
    /// See [`maps::COUNTERS`].
    pub counters: PerCpuTable<Counters>,
    /// See [`maps::DROPS`].
    pub drops: PerCpuTable<Drops>,
    /// The programs that read all these.
    pub readers: Readers,
}

impl Tables {
    /// Takes the handles of a loaded object.
    ///
    /// # Errors
    /// Where the object's maps are not those of this agent.
    pub fn new(loaded: &Loaded) -> Result<Self, LoadError> {
        Ok(Self {
            node: loaded.table(maps::NODE)?,
            locate: loaded.table(maps::LOCATE)?,
            ports: loaded.table(maps::PORTS)?,
            devices: loaded.table(maps::PORT_DEVICES)?,
            sources: loaded.table(maps::SOURCES)?,
            buckets: loaded.table(maps::PORT_BUCKETS)?,
            endpoints: loaded.table(maps::ENDPOINTS)?,
            macs: loaded.table(maps::MACS)?,
            routes: loaded.table(maps::ROUTES)?,
            vteps: loaded.table(maps::VTEPS)?,
            vtep_ids: loaded.table(maps::VTEP_IDS)?,
            flood: loaded.table(maps::FLOOD)?,
            hosts: loaded.table(maps::HOSTS)?,
            subjects: loaded.table(maps::SUBJECTS)?,
            identities: loaded.table(maps::IDENTITIES)?,
            rules: loaded.table(maps::RULES)?,
            sessions_v4: loaded.table(maps::SESSIONS_V4)?,
            sessions_v6: loaded.table(maps::SESSIONS_V6)?,
            outside: OutsideTables::new(loaded)?,
            port_usage: loaded.table(maps::PORT_USAGE)?,
            vpc_usage: loaded.table(maps::VPC_USAGE)?,
            counters: loaded.per_cpu(maps::COUNTERS)?,
            drops: loaded.per_cpu(maps::DROPS)?,
            readers: Readers::new()?,
        })
    }

    /// Reads what the maps hold, traffic's own state left out.
    ///
    /// # Errors
    /// Where the kernel refuses a call.
    pub fn read(&self) -> Result<Image, TableError> {
        let mut locate = self.locate.entries()?;
        locate.sort_by_key(|(number, _)| *number);
        let used = |(slot, port): (u32, Port)| (port.epoch != 0).then_some((slot as u16, port));
        Ok(Image {
            node: self.node.get(&0)?.unwrap_or_default(),
            ports: self.ports.entries()?.into_iter().filter_map(used).collect(),
            devices: self.devices.entries()?.into_iter().map(|(slot, entry)| (slot as u16, entry[0])).collect(),
            locate: locate.into_iter().map(|(_, bucket)| bucket).collect(),
            vteps: self.vteps.entries()?.into_iter().filter(|(_, vtep)| vtep.overhead != 0).collect(),
            vtep_ids: self.vtep_ids.entries()?.into_iter().collect(),
            outside: self.outside.read()?,
            shared: Shared {
                endpoints: sorted(&self.endpoints)?,
                macs: sorted(&self.macs)?,
                routes: sorted(&self.routes)?,
                sources: sorted(&self.sources)?,
                flood: sorted(&self.flood)?,
                hosts: sorted(&self.hosts)?,
                subjects: sorted(&self.subjects)?,
                identities: sorted(&self.identities)?,
                rules: sorted(&self.rules)?,
            },
        })
    }
}

fn sorted<K: Pod + Ord, V: Pod>(table: &Table<K, V>) -> Result<Arc<Vec<(K, V)>>, TableError> {
    let mut entries = table.entries()?;
    entries.sort_unstable_by_key(|(key, _)| *key);
    Ok(Arc::new(entries))
}
