//! The maps. Sizes here are the defaults of `vpc_common::limits`; the agent sets others before it loads the object.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, DevMap, HashMap, LpmTrie, PerCpuArray},
    macros::btf_map,
};
use vpc_common::{
    Ip,
    counters::{Counters, Drops},
    datagram::{self, Datagram},
    endpoint::{Endpoint, EndpointKey, MacEntry, MacKey},
    gateway::{Gateways, Outlet, element},
    limits,
    locate::{BUCKETS, LocateBucket},
    nat::{ElasticKey, External, ExternalPort, Forward, NatIn, NatOut, NatOutKey, NatSlice},
    node,
    policy::{HostKey, IdentityKey, RuleVerdict, Subject},
    port::{self, FloodKey, FloodMember, PortBuckets, Usage},
    route::Route,
    session::{Session, SessionKey, V4, V6},
    vtep::{self, VtepId},
};
use vpc_datapath::scratch::Scratch;

const PORT_SLOTS: usize = limits::LOCAL_PORTS as usize + 1;
const VTEP_COUNT: usize = limits::VTEPS as usize;
const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

/// Key of a trie behind its prefix length: see `SourceKey`, `RouteKey` and `SubjectKey`, which this must equal in layout.
pub type TrieKey = [u32; 5];
/// The same of `RuleKey`.
pub type RuleTrieKey = [u32; 3];

#[btf_map]
pub static NODE: Array<node::Node, 1> = Array::new();
#[btf_map]
pub static LOCATE: Array<LocateBucket, { BUCKETS as usize }> = Array::new();
#[btf_map]
pub static PORTS: Array<port::Port, PORT_SLOTS> = Array::new();
#[btf_map]
pub static PORT_DEVICES: DevMap<PORT_SLOTS> = DevMap::new();
#[btf_map]
pub static PORT_BUCKETS: Array<PortBuckets, PORT_SLOTS> = Array::new();
#[btf_map]
pub static SOURCES: LpmTrie<TrieKey, u32, { limits::SOURCES as usize }> = LpmTrie::new();
#[btf_map]
pub static ENDPOINTS: HashMap<EndpointKey, Endpoint, { limits::ENDPOINTS as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub static MACS: HashMap<MacKey, MacEntry, { limits::ENDPOINTS as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub static ROUTES: LpmTrie<TrieKey, Route, { limits::ROUTES as usize }> = LpmTrie::new();
#[btf_map]
pub static VTEPS: Array<vtep::Vtep, VTEP_COUNT> = Array::new();
#[btf_map]
pub static VTEP_IDS: HashMap<Ip, VtepId, VTEP_COUNT> = HashMap::new();
#[btf_map]
pub static FLOOD: HashMap<FloodKey, FloodMember, { limits::FLOOD_MEMBERS as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub static HOSTS: HashMap<HostKey, Subject, { limits::SUBJECTS as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub static SUBJECTS: LpmTrie<TrieKey, Subject, { limits::SUBJECTS as usize }> = LpmTrie::new();
#[btf_map]
pub static IDENTITIES: HashMap<IdentityKey, Subject, { limits::IDENTITIES as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub static RULES: LpmTrie<RuleTrieKey, RuleVerdict, { limits::RULES as usize }> = LpmTrie::new();
#[btf_map]
pub static SESSIONS_V4: HashMap<SessionKey<V4>, Session, { limits::SESSIONS as usize }> = HashMap::new();
#[btf_map]
pub static SESSIONS_V6: HashMap<SessionKey<V6>, Session, { limits::SESSIONS as usize }> = HashMap::new();
#[btf_map]
pub static EXTERNALS: HashMap<V4, External, { limits::EXTERNALS as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub static ELASTIC_IPS: HashMap<ElasticKey, V4, { limits::EXTERNALS as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub static NAT_GATEWAYS: HashMap<u32, NatSlice, { limits::NAT_GATEWAYS as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub static FORWARDS: HashMap<ExternalPort, Forward, { limits::FORWARDS as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub static NAT_IN: HashMap<ExternalPort, NatIn, { limits::NAT_MAPPINGS as usize }> = HashMap::new();
#[btf_map]
pub static NAT_OUT: HashMap<NatOutKey, NatOut, { limits::NAT_MAPPINGS as usize }> = HashMap::new();
#[btf_map]
pub static GATEWAYS: Array<Gateways, { element::COUNT as usize }> = Array::new();
#[btf_map]
pub static OUTLET: Array<Outlet, 1> = Array::new();
#[btf_map]
pub static DATAGRAMS: Array<Datagram, { datagram::elements(PORT_SLOTS as u32) as usize }> = Array::new();
#[btf_map]
pub static PORT_USAGE: Array<Usage, PORT_SLOTS> = Array::new();
#[btf_map]
pub static VPC_USAGE: Array<Usage, { limits::VPCS as usize }> = Array::new();
#[btf_map]
pub static COUNTERS: PerCpuArray<Counters, PORT_SLOTS> = PerCpuArray::new();
#[btf_map]
pub static DROPS: PerCpuArray<Drops, PORT_SLOTS> = PerCpuArray::new();
#[btf_map]
pub static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();
#[btf_map]
pub static BUFFERS: PerCpuArray<crate::buffer::Bytes, 1> = PerCpuArray::new();
