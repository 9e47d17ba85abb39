//! What the pipeline may ask.

use crate::family::Address;
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

/// A NAT mapping could not be put in: its key is there already, or there is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken;

/// What came of putting a session in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// It is there.
    New,
    /// Another one of its key was there before, and stays: another CPU was faster.
    Late,
    /// There is no room.
    Full,
}

/// What is counted for its bound: see [`vpc_common::port::Usage`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    /// Sessions of the port in a slot.
    PortSessions(u16),
    /// Half-open ones.
    PortHalfOpen(u16),
    /// Sessions of a VPC, by its index.
    VpcSessions(u32),
}

/// The maps and the clock. Values that the agent writes are read in place; what the datapath itself changes is lent to
/// a closure, so that nothing else can be asked meanwhile.
pub trait Tables {
    /// The node.
    fn node(&self) -> Option<&Node>;
    /// One bucket of the locate table.
    fn locate(&self, bucket: u32) -> Option<&LocateBucket>;
    /// The port in a slot.
    fn port(&self, slot: u16) -> Option<&Port>;
    /// Whether the port in the key's slot owns the key's address.
    fn owns(&self, key: &SourceKey) -> bool;
    /// Who has an address.
    fn endpoint(&self, key: &EndpointKey) -> Option<&Endpoint>;
    /// Where a MAC is.
    fn mac(&self, key: &MacKey) -> Option<&MacEntry>;
    /// The longest matching route.
    fn route(&self, key: &RouteKey) -> Option<&Route>;
    /// What a rule set calls a single address.
    fn host(&self, key: &HostKey) -> Option<&Subject>;
    /// What a rule set calls an address by the blocks around it: the longest match.
    fn subject(&self, key: &SubjectKey) -> Option<&Subject>;
    /// What a rule set calls a set of groups.
    fn identity(&self, key: &IdentityKey) -> Option<&Subject>;
    /// What a rule set says to a service of a subject: the longest match.
    fn rule(&self, key: &RuleKey) -> Option<&RuleVerdict>;
    /// A VTEP by node id.
    fn vtep(&self, node: u16) -> Option<&Vtep>;
    /// The node that has a VTEP address.
    fn vtep_id(&self, address: &Ip) -> Option<u16>;
    /// Who stands behind an external address.
    fn external(&self, address: &V4) -> Option<&External>;
    /// The elastic IP of a private address.
    fn elastic_ip(&self, key: &ElasticKey) -> Option<&V4>;
    /// This node's slice of a NAT gateway's ports.
    fn nat_gateway(&self, id: &u32) -> Option<&NatSlice>;
    /// Where an external port is forwarded to.
    fn forward(&self, key: &ExternalPort) -> Option<&Forward>;
    /// Lends the NAT mapping of an external port.
    fn nat_in<R>(&self, key: &ExternalPort, with: impl FnOnce(&mut NatIn) -> R) -> Option<R>;
    /// Where the NAT mapping of a guest's port is, if it is not at its home.
    fn nat_out(&self, key: &NatOutKey) -> Option<&NatOut>;
    /// Puts a NAT mapping in where there is none: what other CPUs do meanwhile counts.
    fn insert_nat_in(&self, key: &ExternalPort, mapping: &NatIn) -> Result<(), Taken>;
    /// Leads a guest's port to its NAT mapping, where it is led nowhere yet.
    fn insert_nat_out(&self, key: &NatOutKey, mapping: &NatOut) -> Result<(), Taken>;
    /// The same, wherever it was led before.
    fn replace_nat_out(&self, key: &NatOutKey, mapping: &NatOut) -> Result<(), Taken>;
    /// Takes a NAT mapping out.
    fn remove_nat_in(&self, key: &ExternalPort);
    /// The gateways of the fabric.
    fn gateways(&self) -> Option<&Gateways>;
    /// Those on this gateway's own segment outside.
    fn segment(&self) -> Option<&Gateways>;
    /// How this node reaches the outside.
    fn outlet(&self) -> Option<&Outlet>;
    /// A member of a flood list.
    fn flood(&self, key: &FloodKey) -> Option<&FloodMember>;
    /// Lends the session of that key.
    fn session<A: Address, R>(&self, key: &SessionKey<A>, with: impl FnOnce(&mut Session) -> R) -> Option<R>;
    /// Reads a word of a lent value again, after all that was read of it before: it may have become another's meanwhile.
    fn again(&self, word: &u32) -> u32;
    /// Puts a session in, where none of its key is.
    fn insert_session<A: Address>(&self, key: &SessionKey<A>, session: &Session) -> Inserted;
    /// Adds to a count, whatever other CPUs do meanwhile; returns the sum.
    fn count(&self, count: Count, change: i32) -> u32;
    /// Lends an element of the datagrams: see [`vpc_common::datagram::Share`].
    fn datagram<R>(&self, index: u32, with: impl FnOnce(&mut Datagram) -> R) -> Option<R>;
    /// Lends the bounds of a slot.
    fn buckets<R>(&self, slot: u16, with: impl FnOnce(&mut PortBuckets) -> R) -> Option<R>;
    /// The monotonic clock, ns, as cheap as it comes: some milliseconds old.
    fn now_coarse(&self) -> u64;
    /// A number that is another one when [`Self::now_coarse`] is.
    fn jiffies(&self) -> u64;
}
