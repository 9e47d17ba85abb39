//! Ordered maps as `vpc_datapath::Tables`.

use crate::{
    case::{Bucket, Led},
    outcome::{FlowKey, Sessions, timeless},
    state::State,
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, btree_map::Entry},
};
use vpc_common::{
    Ip,
    datagram::Datagram,
    endpoint::{Endpoint, EndpointKey, MacEntry, MacKey},
    gateway::{Gateways, Outlet},
    locate::LocateBucket,
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
    family::{Address, Family},
    tables::{Count, Inserted, Taken},
};

/// When the clock starts, ns: late enough for every bucket to be full.
const START: u64 = 1_000_000_000_000;

/// The tables, and a clock that stands still until it is moved.
#[derive(Debug, Default)]
pub struct HostTables {
    state: Option<State>,
    sessions: RefCell<Sessions>,
    buckets: RefCell<BTreeMap<u16, PortBuckets>>,
    counts: RefCell<BTreeMap<(u8, u32), u32>>,
    nat_in: RefCell<BTreeMap<ExternalPort, NatIn>>,
    nat_out: RefCell<BTreeMap<NatOutKey, &'static NatOut>>,
    datagrams: RefCell<BTreeMap<u32, Datagram>>,
    now: u64,
    reused: Reuse,
}

/// What becomes of the elements of sessions that are removed, while a packet looks at them: a kernel hash gives them to
/// other flows at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reuse {
    /// None is removed.
    #[default]
    Never,
    /// Each is another flow's when it is looked at.
    Before,
    /// Each becomes another flow's after its seal was looked at.
    Meanwhile,
}

impl HostTables {
    /// Those tables, without sessions and with full buckets.
    pub fn new(state: &State) -> Self {
        Self { state: Some(state.clone()), now: START, ..Self::default() }
    }
    /// Other tables; the rest stays.
    pub fn change(&mut self, state: &State) {
        self.state = Some(state.clone());
    }
    /// Moves the clock.
    pub fn wait(&mut self, milliseconds: u64) {
        self.now += milliseconds * 1_000_000;
    }
    /// Empties a bucket.
    pub fn exhaust(&self, slot: u16, bucket: Bucket) {
        let mut buckets = self.buckets.borrow_mut();
        let buckets = buckets.entry(slot).or_default();
        let bucket = match bucket {
            Bucket::Icmp => &mut buckets.icmp,
            Bucket::Flood => &mut buckets.flood,
            Bucket::Nat => &mut buckets.nat,
        };
        (bucket.tokens, bucket.filled_ns) = (0, self.now);
    }
    /// Puts a NAT mapping in.
    pub fn map(&self, key: &ExternalPort, mapping: &NatIn, led: Led) {
        self.nat_in.borrow_mut().insert(*key, *mapping);
        if let Some((key, value)) = led.way_out(key, mapping) {
            self.nat_out.borrow_mut().insert(key, Box::leak(Box::new(value)));
        }
    }
    /// Gives the elements of sessions to other flows from now on.
    pub fn reuse(&mut self, when: Reuse) {
        self.reused = when;
    }
    /// The sessions.
    pub fn sessions(&self) -> Sessions {
        self.sessions.borrow().iter().map(|(key, session)| (*key, timeless(session))).collect()
    }
    /// Whether XDP can redirect into the interface of a slot.
    pub fn has_device(&self, slot: u16) -> bool {
        self.state.as_ref().is_some_and(|state| state.devices.contains_key(&slot))
    }
}

fn flow_key<A: Address>(key: &SessionKey<A>) -> FlowKey {
    FlowKey {
        slot: key.slot,
        protocol: key.protocol,
        local: A::Family::ip(key.local),
        local_port: key.local_port,
        remote: A::Family::ip(key.remote),
        remote_port: key.remote_port,
    }
}

/// The longest prefix of `table` that covers words in network order.
fn longest<K, V, const N: usize>(
    table: &[(K, V)],
    wanted: [u32; N],
    prefix: impl Fn(&K) -> (u32, [u32; N]),
) -> Option<&V> {
    let covers = |length: u32, prefix: [u32; N]| {
        let mut left = length;
        wanted.iter().zip(prefix).all(|(a, b)| {
            let bits = left.min(32);
            left -= bits;
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            u32::from_be(*a) & mask == u32::from_be(b) & mask
        })
    };
    let matching = table.iter().filter(|(key, _)| {
        let (length, bits) = prefix(key);
        covers(length, bits)
    });
    matching.max_by_key(|(key, _)| prefix(key).0).map(|(_, value)| value)
}

fn words(first: vpc_common::Be32, address: Ip) -> [u32; 5] {
    let [a, b, c, d] = address.0;
    [first.raw(), a, b, c, d]
}

impl Tables for HostTables {
    fn node(&self) -> Option<&Node> {
        Some(&self.state.as_ref()?.node)
    }
    fn locate(&self, bucket: u32) -> Option<&LocateBucket> {
        static EMPTY: LocateBucket = LocateBucket(
            [vpc_common::locate::LocateEntry { domain: 0, slot: 0, mac_high: 0, mac_low: 0, reserved: 0 };
                vpc_common::locate::WAYS],
        );
        Some(self.state.as_ref()?.locate.get(&bucket).unwrap_or(&EMPTY))
    }
    fn port(&self, slot: u16) -> Option<&Port> {
        static EMPTY: std::sync::OnceLock<Port> = std::sync::OnceLock::new();
        Some(self.state.as_ref()?.ports.get(&slot).unwrap_or_else(|| EMPTY.get_or_init(Port::default)))
    }
    fn owns(&self, key: &SourceKey) -> bool {
        let Some(state) = &self.state else { return false };
        let prefix = |key: &SourceKey| (key.prefix_len, words(key.slot, key.address));
        longest(&state.sources, words(key.slot, key.address), prefix).is_some()
    }
    fn endpoint(&self, key: &EndpointKey) -> Option<&Endpoint> {
        self.state.as_ref()?.endpoints.get(key)
    }
    fn mac(&self, key: &MacKey) -> Option<&MacEntry> {
        self.state.as_ref()?.macs.get(key)
    }
    fn route(&self, key: &RouteKey) -> Option<&Route> {
        let prefix = |key: &RouteKey| (key.prefix_len, words(key.table, key.destination));
        longest(&self.state.as_ref()?.routes, words(key.table, key.destination), prefix)
    }
    fn host(&self, key: &HostKey) -> Option<&Subject> {
        self.state.as_ref()?.hosts.get(key)
    }
    fn subject(&self, key: &SubjectKey) -> Option<&Subject> {
        let prefix = |key: &SubjectKey| (key.prefix_len, words(key.rules, key.address));
        longest(&self.state.as_ref()?.subjects, words(key.rules, key.address), prefix)
    }
    fn identity(&self, key: &IdentityKey) -> Option<&Subject> {
        self.state.as_ref()?.identities.get(key)
    }
    fn rule(&self, key: &RuleKey) -> Option<&RuleVerdict> {
        let words = |key: &RuleKey| [key.rules.raw(), key.subject.raw(), key.service.raw()];
        longest(&self.state.as_ref()?.rules, words(key), |key| (key.prefix_len, words(key)))
    }
    fn vtep(&self, node: u16) -> Option<&Vtep> {
        static EMPTY: std::sync::OnceLock<Vtep> = std::sync::OnceLock::new();
        let empty = || EMPTY.get_or_init(bytemuck::Zeroable::zeroed);
        Some(self.state.as_ref()?.vteps.get(&node).unwrap_or_else(empty))
    }
    fn vtep_id(&self, address: &Ip) -> Option<u16> {
        self.state.as_ref()?.vtep_ids.get(address).map(|id| id.node as u16)
    }
    fn external(&self, address: &V4) -> Option<&External> {
        self.state.as_ref()?.externals.get(address)
    }
    fn elastic_ip(&self, key: &ElasticKey) -> Option<&V4> {
        self.state.as_ref()?.elastic_ips.get(key)
    }
    fn nat_gateway(&self, id: &u32) -> Option<&NatSlice> {
        self.state.as_ref()?.slices.get(id)
    }
    fn forward(&self, key: &ExternalPort) -> Option<&Forward> {
        self.state.as_ref()?.forwards.get(key)
    }
    fn nat_in<R>(&self, key: &ExternalPort, with: impl FnOnce(&mut NatIn) -> R) -> Option<R> {
        self.nat_in.borrow_mut().get_mut(key).map(with)
    }
    fn nat_out(&self, key: &NatOutKey) -> Option<&NatOut> {
        self.nat_out.borrow().get(key).copied()
    }
    fn insert_nat_in(&self, key: &ExternalPort, mapping: &NatIn) -> Result<(), Taken> {
        match self.nat_in.borrow_mut().entry(*key) {
            Entry::Occupied(_) => Err(Taken),
            Entry::Vacant(vacant) => {
                vacant.insert(*mapping);
                Ok(())
            }
        }
    }
    fn insert_nat_out(&self, key: &NatOutKey, mapping: &NatOut) -> Result<(), Taken> {
        match self.nat_out.borrow_mut().entry(*key) {
            Entry::Occupied(_) => Err(Taken),
            Entry::Vacant(vacant) => {
                // A value is lent for as long as the tables live; a test makes few.
                vacant.insert(Box::leak(Box::new(*mapping)));
                Ok(())
            }
        }
    }
    fn replace_nat_out(&self, key: &NatOutKey, mapping: &NatOut) -> Result<(), Taken> {
        self.nat_out.borrow_mut().insert(*key, Box::leak(Box::new(*mapping)));
        Ok(())
    }
    fn remove_nat_in(&self, key: &ExternalPort) {
        self.nat_in.borrow_mut().remove(key);
    }
    fn gateways(&self) -> Option<&Gateways> {
        Some(&self.state.as_ref()?.gateways)
    }
    fn segment(&self) -> Option<&Gateways> {
        Some(&self.state.as_ref()?.segment)
    }
    fn outlet(&self) -> Option<&Outlet> {
        Some(&self.state.as_ref()?.outlet)
    }
    fn flood(&self, key: &FloodKey) -> Option<&FloodMember> {
        self.state.as_ref()?.flood.get(key)
    }
    fn session<A: Address, R>(&self, key: &SessionKey<A>, with: impl FnOnce(&mut Session) -> R) -> Option<R> {
        let mut sessions = self.sessions.borrow_mut();
        let other = sessions.iter().find(|(other, _)| **other != flow_key(key)).map(|(_, session)| *session);
        let session = sessions.get_mut(&flow_key(key))?;
        match (self.reused, other) {
            (Reuse::Before, Some(mut other)) => Some(with(&mut other)),
            (Reuse::Meanwhile, Some(other)) => Some(with(&mut Session { seal: session.seal, ..other })),
            _ => Some(with(session)),
        }
    }
    fn again(&self, word: &u32) -> u32 {
        if self.reused == Reuse::Meanwhile { !*word } else { *word }
    }
    fn insert_session<A: Address>(&self, key: &SessionKey<A>, session: &Session) -> Inserted {
        match self.sessions.borrow_mut().entry(flow_key(key)) {
            Entry::Vacant(vacant) => {
                vacant.insert(*session);
                Inserted::New
            }
            Entry::Occupied(_) => Inserted::Late,
        }
    }
    fn count(&self, count: Count, change: i32) -> u32 {
        let key = match count {
            Count::PortSessions(slot) => (0, slot.into()),
            Count::PortHalfOpen(slot) => (1, slot.into()),
            Count::VpcSessions(index) => (2, index),
        };
        let mut counts = self.counts.borrow_mut();
        let sum = counts.entry(key).or_default();
        *sum = sum.wrapping_add_signed(change);
        *sum
    }
    fn datagram<R>(&self, index: u32, with: impl FnOnce(&mut Datagram) -> R) -> Option<R> {
        Some(with(self.datagrams.borrow_mut().entry(index).or_default()))
    }
    fn buckets<R>(&self, slot: u16, with: impl FnOnce(&mut PortBuckets) -> R) -> Option<R> {
        Some(with(self.buckets.borrow_mut().entry(slot).or_default()))
    }
    fn now_coarse(&self) -> u64 {
        self.now
    }
    fn jiffies(&self) -> u64 {
        self.now
    }
}
