//! Tables that count what is asked of them.

use super::HostTables;
use crate::accesses::{Accesses, Operation};
use std::cell::RefCell;
use vpc_common::{
    Ip,
    datagram::Datagram,
    endpoint::{Endpoint, EndpointKey, MacEntry, MacKey},
    gateway::{Gateways, Outlet},
    locate::LocateBucket,
    maps,
    nat::{ElasticKey, External, ExternalPort, Forward, NatIn, NatOut, NatOutKey, NatSlice},
    node::Node,
    policy::{HostKey, IdentityKey, RuleKey, RuleVerdict, Subject, SubjectKey},
    port::{FloodKey, FloodMember, Port, PortBuckets, SourceKey},
    route::{Route, RouteKey},
    session::{Session, SessionKey, V4},
    vtep::Vtep,
};
use vpc_datapath::{
    Tables,
    family::Address,
    tables::{Count, Inserted, Taken},
};

/// Host tables with the accesses that the kernel's adapter (`vpc-dataplane-ebpf/src/tables.rs`) would make: one for each
/// call, to the same map.
#[derive(Debug, Default)]
pub(super) struct Metered {
    tables: HostTables,
    accesses: RefCell<Accesses>,
}

impl Metered {
    /// Nothing was asked yet.
    pub(super) fn new(tables: HostTables) -> Self {
        Self { tables, accesses: RefCell::default() }
    }
    /// The tables.
    pub(super) fn tables(&self) -> &HostTables {
        &self.tables
    }
    /// The same, to change them.
    pub(super) fn tables_mut(&mut self) -> &mut HostTables {
        &mut self.tables
    }
    /// What was asked since [`Self::forget`].
    pub(super) fn accesses(&self) -> Accesses {
        self.accesses.borrow().clone()
    }
    /// Begins to count anew.
    pub(super) fn forget(&self) {
        self.accesses.take();
    }

    fn look_up(&self, map: &'static str) -> &HostTables {
        self.access(Operation::Lookup, map)
    }
    fn insert(&self, map: &'static str) -> &HostTables {
        self.access(Operation::Insert, map)
    }
    fn access(&self, operation: Operation, map: &'static str) -> &HostTables {
        self.accesses.borrow_mut().note(operation, map);
        &self.tables
    }
}

/// The session map of a family.
fn sessions<A: Address>() -> &'static str {
    if size_of::<A>() == size_of::<V4>() { maps::SESSIONS_V4 } else { maps::SESSIONS_V6 }
}

impl Tables for Metered {
    fn node(&self) -> Option<&Node> {
        self.look_up(maps::NODE).node()
    }
    fn locate(&self, bucket: u32) -> Option<&LocateBucket> {
        self.look_up(maps::LOCATE).locate(bucket)
    }
    fn port(&self, slot: u16) -> Option<&Port> {
        self.look_up(maps::PORTS).port(slot)
    }
    fn owns(&self, key: &SourceKey) -> bool {
        self.look_up(maps::SOURCES).owns(key)
    }
    fn endpoint(&self, key: &EndpointKey) -> Option<&Endpoint> {
        self.look_up(maps::ENDPOINTS).endpoint(key)
    }
    fn mac(&self, key: &MacKey) -> Option<&MacEntry> {
        self.look_up(maps::MACS).mac(key)
    }
    fn route(&self, key: &RouteKey) -> Option<&Route> {
        self.look_up(maps::ROUTES).route(key)
    }
    fn host(&self, key: &HostKey) -> Option<&Subject> {
        self.look_up(maps::HOSTS).host(key)
    }
    fn subject(&self, key: &SubjectKey) -> Option<&Subject> {
        self.look_up(maps::SUBJECTS).subject(key)
    }
    fn identity(&self, key: &IdentityKey) -> Option<&Subject> {
        self.look_up(maps::IDENTITIES).identity(key)
    }
    fn rule(&self, key: &RuleKey) -> Option<&RuleVerdict> {
        self.look_up(maps::RULES).rule(key)
    }
    fn vtep(&self, node: u16) -> Option<&Vtep> {
        self.look_up(maps::VTEPS).vtep(node)
    }
    fn vtep_id(&self, address: &Ip) -> Option<u16> {
        self.look_up(maps::VTEP_IDS).vtep_id(address)
    }
    fn external(&self, address: &V4) -> Option<&External> {
        self.look_up(maps::EXTERNALS).external(address)
    }
    fn elastic_ip(&self, key: &ElasticKey) -> Option<&V4> {
        self.look_up(maps::ELASTIC_IPS).elastic_ip(key)
    }
    fn nat_gateway(&self, id: &u32) -> Option<&NatSlice> {
        self.look_up(maps::NAT_GATEWAYS).nat_gateway(id)
    }
    fn forward(&self, key: &ExternalPort) -> Option<&Forward> {
        self.look_up(maps::FORWARDS).forward(key)
    }
    fn nat_in<R>(&self, key: &ExternalPort, with: impl FnOnce(&mut NatIn) -> R) -> Option<R> {
        self.look_up(maps::NAT_IN).nat_in(key, with)
    }
    fn nat_out(&self, key: &NatOutKey) -> Option<&NatOut> {
        self.look_up(maps::NAT_OUT).nat_out(key)
    }
    fn insert_nat_in(&self, key: &ExternalPort, mapping: &NatIn) -> Result<(), Taken> {
        self.insert(maps::NAT_IN).insert_nat_in(key, mapping)
    }
    fn insert_nat_out(&self, key: &NatOutKey, mapping: &NatOut) -> Result<(), Taken> {
        self.insert(maps::NAT_OUT).insert_nat_out(key, mapping)
    }
    fn replace_nat_out(&self, key: &NatOutKey, mapping: &NatOut) -> Result<(), Taken> {
        self.insert(maps::NAT_OUT).replace_nat_out(key, mapping)
    }
    fn remove_nat_in(&self, key: &ExternalPort) {
        self.access(Operation::Remove, maps::NAT_IN).remove_nat_in(key);
    }
    fn gateways(&self) -> Option<&Gateways> {
        self.look_up(maps::GATEWAYS).gateways()
    }
    fn segment(&self) -> Option<&Gateways> {
        self.look_up(maps::GATEWAYS).segment()
    }
    fn outlet(&self) -> Option<&Outlet> {
        self.look_up(maps::OUTLET).outlet()
    }
    fn flood(&self, key: &FloodKey) -> Option<&FloodMember> {
        self.look_up(maps::FLOOD).flood(key)
    }
    fn session<A: Address, R>(&self, key: &SessionKey<A>, with: impl FnOnce(&mut Session) -> R) -> Option<R> {
        self.look_up(sessions::<A>()).session(key, with)
    }
    fn again(&self, word: &u32) -> u32 {
        self.tables.again(word)
    }
    fn insert_session<A: Address>(&self, key: &SessionKey<A>, session: &Session) -> Inserted {
        self.insert(sessions::<A>()).insert_session(key, session)
    }
    fn count(&self, count: Count, change: i32) -> u32 {
        let map = match count {
            Count::PortSessions(_) | Count::PortHalfOpen(_) => maps::PORT_USAGE,
            Count::VpcSessions(_) => maps::VPC_USAGE,
        };
        self.look_up(map).count(count, change)
    }
    fn datagram<R>(&self, index: u32, with: impl FnOnce(&mut Datagram) -> R) -> Option<R> {
        self.look_up(maps::DATAGRAMS).datagram(index, with)
    }
    fn buckets<R>(&self, slot: u16, with: impl FnOnce(&mut PortBuckets) -> R) -> Option<R> {
        self.look_up(maps::PORT_BUCKETS).buckets(slot, with)
    }
    fn now_coarse(&self) -> u64 {
        self.tables.now_coarse()
    }
    fn jiffies(&self) -> u64 {
        self.tables.jiffies()
    }
}
