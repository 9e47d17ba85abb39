//! The maps as `vpc_datapath::Tables`.

use crate::{atomic, maps, opaque::read_again};
use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers,
};
use core::{ffi::c_void, ptr::from_ref};
use vpc_common::{
    Ip,
    datagram::Datagram,
    endpoint::{Endpoint, EndpointKey, MacEntry, MacKey},
    gateway::{Gateways, Outlet, element},
    locate::LocateBucket,
    nat::{ElasticKey, External, ExternalPort, Forward, NatIn, NatOut, NatOutKey, NatSlice},
    node::Node,
    policy::{HostKey, IdentityKey, RuleKey, RuleVerdict, Subject, SubjectKey},
    port::{FloodKey, FloodMember, Port, PortBuckets, SourceKey},
    route::{Route, RouteKey},
    session::{Session, SessionKey, V4},
    vtep::{Vtep, VtepId},
};
use vpc_datapath::{
    Scratch, Tables,
    family::Address,
    tables::{Count, Inserted, Taken},
};

/// The maps. Holds nothing.
pub struct Maps;

/// `bpf_map_lookup_elem`.
///
/// # Safety
/// `map` is a map whose keys have the layout of `K` and whose values that of `V`.
#[inline(always)]
unsafe fn lookup<M, K, V>(map: &'static M, key: &K) -> Option<*mut V> {
    // SAFETY: the helper reads a key of the map's key size, which the caller vouches for, and returns null or a value
    // that stays readable while the program runs.
    let value = unsafe { helpers::bpf_map_lookup_elem(from_ref(map).cast_mut().cast(), from_ref(key).cast()) };
    if value.is_null() { None } else { Some(value.cast()) }
}

/// `bpf_map_update_elem`.
///
/// # Safety
/// As for [`lookup`].
#[inline(always)]
unsafe fn update<M, K, V>(map: &'static M, key: &K, value: &V, flags: u32) -> Result<(), Taken> {
    // SAFETY: the helper copies both, whose sizes the caller vouches for.
    let result = unsafe {
        helpers::bpf_map_update_elem(
            from_ref(map).cast_mut().cast(),
            from_ref(key).cast(),
            from_ref(value).cast(),
            flags as u64,
        )
    };
    if result == 0 { Ok(()) } else { Err(Taken) }
}

/// The session map of a family: the key's size tells which.
#[inline(always)]
fn sessions<A: Address>() -> *mut c_void {
    if size_of::<A>() == 4 {
        from_ref(&maps::SESSIONS_V4).cast_mut().cast()
    } else {
        from_ref(&maps::SESSIONS_V6).cast_mut().cast()
    }
}

/// This CPU's scratch.
#[inline(always)]
pub fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: a per-CPU value, and programs of one CPU do not interrupt each other: TC and XDP both run in softirq.
    maps::SCRATCH.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
}

impl Tables for Maps {
    #[inline(always)]
    fn node(&self) -> Option<&Node> {
        maps::NODE.get(0)
    }
    #[inline(always)]
    fn locate(&self, bucket: u32) -> Option<&LocateBucket> {
        maps::LOCATE.get(bucket)
    }
    #[inline(always)]
    fn port(&self, slot: u16) -> Option<&Port> {
        maps::PORTS.get(slot as u32)
    }
    #[inline(always)]
    fn owns(&self, key: &SourceKey) -> bool {
        // SAFETY: SourceKey and the trie's key have the same layout: a prefix length and five words.
        unsafe { lookup::<_, _, u32>(&maps::SOURCES, key) }.is_some()
    }
    #[inline(always)]
    fn endpoint(&self, key: &EndpointKey) -> Option<&Endpoint> {
        // SAFETY: key and value types are the map's. The agent replaces values whole; a torn read is one of two
        // configurations and ends with the epoch's next step.
        unsafe { lookup::<_, _, Endpoint>(&maps::ENDPOINTS, key).map(|v| &*v) }
    }
    #[inline(always)]
    fn mac(&self, key: &MacKey) -> Option<&MacEntry> {
        // SAFETY: key and value types are the map's.
        unsafe { lookup::<_, _, MacEntry>(&maps::MACS, key).map(|v| &*v) }
    }
    #[inline(always)]
    fn route(&self, key: &RouteKey) -> Option<&Route> {
        // SAFETY: RouteKey and the trie's key have the same layout: a prefix length and five words.
        unsafe { lookup::<_, _, Route>(&maps::ROUTES, key).map(|v| &*v) }
    }
    #[inline(always)]
    fn host(&self, key: &HostKey) -> Option<&Subject> {
        // SAFETY: key and value types are the map's.
        unsafe { lookup::<_, _, Subject>(&maps::HOSTS, key).map(|v| &*v) }
    }
    #[inline(always)]
    fn subject(&self, key: &SubjectKey) -> Option<&Subject> {
        // SAFETY: SubjectKey and the trie's key have the same layout: a prefix length and five words.
        unsafe { lookup::<_, _, Subject>(&maps::SUBJECTS, key).map(|v| &*v) }
    }
    #[inline(always)]
    fn identity(&self, key: &IdentityKey) -> Option<&Subject> {
        // SAFETY: key and value types are the map's.
        unsafe { lookup::<_, _, Subject>(&maps::IDENTITIES, key).map(|v| &*v) }
    }
    #[inline(always)]
    fn rule(&self, key: &RuleKey) -> Option<&RuleVerdict> {
        // SAFETY: RuleKey and the trie's key have the same layout: a prefix length and three words.
        unsafe { lookup::<_, _, RuleVerdict>(&maps::RULES, key).map(|v| &*v) }
    }
    #[inline(always)]
    fn vtep(&self, node: u16) -> Option<&Vtep> {
        maps::VTEPS.get(node as u32)
    }
    #[inline(always)]
    fn vtep_id(&self, address: &Ip) -> Option<u16> {
        // SAFETY: key and value types are the map's.
        unsafe { lookup::<_, _, VtepId>(&maps::VTEP_IDS, address).map(|v| (*v).node as u16) }
    }
    #[inline(always)]
    fn external(&self, address: &V4) -> Option<&External> {
        // SAFETY: key and value types are the map's.
        unsafe { lookup::<_, _, External>(&maps::EXTERNALS, address).map(|v| &*v) }
    }
    #[inline(always)]
    fn elastic_ip(&self, key: &ElasticKey) -> Option<&V4> {
        // SAFETY: key and value types are the map's.
        unsafe { lookup::<_, _, V4>(&maps::ELASTIC_IPS, key).map(|v| &*v) }
    }
    #[inline(always)]
    fn nat_gateway(&self, id: &u32) -> Option<&NatSlice> {
        // SAFETY: key and value types are the map's.
        unsafe { lookup::<_, _, NatSlice>(&maps::NAT_GATEWAYS, id).map(|v| &*v) }
    }
    #[inline(always)]
    fn forward(&self, key: &ExternalPort) -> Option<&Forward> {
        // SAFETY: key and value types are the map's.
        unsafe { lookup::<_, _, Forward>(&maps::FORWARDS, key).map(|v| &*v) }
    }
    #[inline(always)]
    fn nat_in<R>(&self, key: &ExternalPort, with: impl FnOnce(&mut NatIn) -> R) -> Option<R> {
        // SAFETY: key and value types are the map's. Of a mapping only the time of its last use changes.
        unsafe { lookup::<_, _, NatIn>(&maps::NAT_IN, key).map(|v| with(&mut *v)) }
    }
    #[inline(always)]
    fn nat_out(&self, key: &NatOutKey) -> Option<&NatOut> {
        // SAFETY: key and value types are the map's.
        unsafe { lookup::<_, _, NatOut>(&maps::NAT_OUT, key).map(|v| &*v) }
    }
    #[inline(always)]
    fn insert_nat_in(&self, key: &ExternalPort, mapping: &NatIn) -> Result<(), Taken> {
        // SAFETY: key and value types are the map's.
        unsafe { update(&maps::NAT_IN, key, mapping, BPF_NOEXIST) }
    }
    #[inline(always)]
    fn insert_nat_out(&self, key: &NatOutKey, mapping: &NatOut) -> Result<(), Taken> {
        // SAFETY: key and value types are the map's.
        unsafe { update(&maps::NAT_OUT, key, mapping, BPF_NOEXIST) }
    }
    #[inline(always)]
    fn replace_nat_out(&self, key: &NatOutKey, mapping: &NatOut) -> Result<(), Taken> {
        // SAFETY: key and value types are the map's.
        unsafe { update(&maps::NAT_OUT, key, mapping, BPF_ANY) }
    }
    #[inline(always)]
    fn remove_nat_in(&self, key: &ExternalPort) {
        // SAFETY: the key type is the map's.
        unsafe { helpers::bpf_map_delete_elem(from_ref(&maps::NAT_IN).cast_mut().cast(), from_ref(key).cast()) };
    }
    #[inline(always)]
    fn gateways(&self) -> Option<&Gateways> {
        maps::GATEWAYS.get(element::FABRIC)
    }
    #[inline(always)]
    fn segment(&self) -> Option<&Gateways> {
        maps::GATEWAYS.get(element::SEGMENT)
    }
    #[inline(always)]
    fn outlet(&self) -> Option<&Outlet> {
        maps::OUTLET.get(0)
    }
    #[inline(always)]
    fn flood(&self, key: &FloodKey) -> Option<&FloodMember> {
        // SAFETY: key and value types are the map's.
        unsafe { lookup::<_, _, FloodMember>(&maps::FLOOD, key).map(|v| &*v) }
    }
    #[inline(always)]
    fn session<A: Address, R>(&self, key: &SessionKey<A>, with: impl FnOnce(&mut Session) -> R) -> Option<R> {
        // SAFETY: the map of that family has keys of this type and Session values. Several CPUs may change one session:
        // its fields are plain words, a lost count is accepted, and what was decided is only believed with its seal.
        unsafe {
            let value = helpers::bpf_map_lookup_elem(sessions::<A>(), from_ref(key).cast());
            if value.is_null() { None } else { Some(with(&mut *value.cast::<Session>())) }
        }
    }
    #[inline(always)]
    fn again(&self, word: &u32) -> u32 {
        read_again(word)
    }
    #[inline(always)]
    fn insert_session<A: Address>(&self, key: &SessionKey<A>, session: &Session) -> Inserted {
        // SAFETY: as above; the helper copies both.
        let result = unsafe {
            helpers::bpf_map_update_elem(
                sessions::<A>(),
                from_ref(key).cast(),
                from_ref(session).cast(),
                BPF_NOEXIST as u64,
            )
        };
        const EEXIST: i64 = -17;
        match result {
            0 => Inserted::New,
            EEXIST => Inserted::Late,
            _ => Inserted::Full,
        }
    }
    #[inline(always)]
    fn count(&self, count: Count, change: i32) -> u32 {
        let counter = match count {
            Count::PortSessions(slot) => {
                // SAFETY: a value of the map, of which only the address of one word is taken.
                maps::PORT_USAGE.get_ptr_mut(slot as u32).map(|u| unsafe { &raw mut (*u).sessions })
            }
            Count::PortHalfOpen(slot) => {
                // SAFETY: as above.
                maps::PORT_USAGE.get_ptr_mut(slot as u32).map(|u| unsafe { &raw mut (*u).half_open })
            }
            Count::VpcSessions(index) => {
                // SAFETY: as above.
                maps::VPC_USAGE.get_ptr_mut(index).map(|u| unsafe { &raw mut (*u).sessions })
            }
        };
        // What has no counter has no room.
        let Some(counter) = counter else { return u32::MAX };
        // SAFETY: the pointer is to an aligned word of a map's value.
        unsafe { atomic::fetch_add(counter, change as u32) }.wrapping_add(change as u32)
    }
    #[inline(always)]
    fn datagram<R>(&self, index: u32, with: impl FnOnce(&mut Datagram) -> R) -> Option<R> {
        // SAFETY: plain words. Fragments of one datagram that two CPUs handle at once may miss each other and are dropped.
        maps::DATAGRAMS.get_ptr_mut(index).map(|d| with(unsafe { &mut *d }))
    }
    #[inline(always)]
    fn buckets<R>(&self, slot: u16, with: impl FnOnce(&mut PortBuckets) -> R) -> Option<R> {
        // SAFETY: plain words; two CPUs may both take the last token, which is accepted.
        maps::PORT_BUCKETS.get_ptr_mut(slot as u32).map(|b| with(unsafe { &mut *b }))
    }
    #[inline(always)]
    fn now_coarse(&self) -> u64 {
        // SAFETY: a helper without arguments.
        unsafe { helpers::bpf_ktime_get_coarse_ns() }
    }
    #[inline(always)]
    fn jiffies(&self) -> u64 {
        // SAFETY: as above. The verifier makes a load of it.
        unsafe { helpers::bpf_jiffies64() }
    }
}
