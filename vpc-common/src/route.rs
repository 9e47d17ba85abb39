//! Routes. A route table is immutable: its id is made from its content, a changed table has another id.

use crate::{Be32, Ip, Vni};
use bytemuck::{Pod, Zeroable};

/// Key of the `ROUTES` trie.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default, PartialOrd, Ord, Hash)]
pub struct RouteKey {
    /// 32 for the table, plus the prefix of the destination in its 128-bit form.
    pub prefix_len: u32,
    /// Id of the table, in network order so that it is a prefix.
    pub table: Be32,
    /// The destination.
    pub destination: Ip,
}

/// Values of [`Route::kind`].
pub mod kind {
    /// The destination is an endpoint of [`super::Route::vpc`].
    pub const LOCAL: u32 = 1;
    /// The next hop is the endpoint [`super::Route::next_hop`] of [`super::Route::vpc`]. Of the outside's table: what nobody
    /// has as its own address there is that endpoint's, whose network outside is that of its own address.
    pub const PORT: u32 = 2;
    /// Drop without an answer.
    pub const BLACKHOLE: u32 = 3;
    /// As if there were no route: keeps IPv4, which lies inside `::ffff:0:0/96`, from an IPv6 default route.
    pub const UNREACHABLE: u32 = 4;
    /// To the outside, by the elastic IP that the source has.
    pub const INTERNET: u32 = 5;
    /// To the outside, by the NAT gateway whose id is the last word of [`super::Route::next_hop`], host order. The first
    /// word is the id of the rule set of what it lets out, [`crate::port::Port::NO_ACL`] where it lets all out.
    pub const NAT: u32 = 6;
    /// The next hop is one of several instances: the route of the flow's bucket (see [`super::BUCKETS`]) in the table
    /// whose id is the last word of [`super::Route::next_hop`], host order.
    pub const PORTS: u32 = 7;
    /// Of the outside's table: as [`LOCAL`], but only replies get in.
    pub const REPLIES: u32 = 8;
}

impl RouteKey {
    /// Id of the outside's own table: the blocks of IPv6 whose addresses are reached from there. Of routes of subnets the last
    /// word of [`Route::next_hop`] is the VPC's number, host order, as in [`crate::nat::External::vpc_number`].
    pub const OUTSIDE: Be32 = Be32::new(u32::MAX);
}

/// Routes of a table of instances: its destinations are the numbers of buckets, as IPv4 addresses. A flow's bucket is
/// that of its hash, which both of its directions share. When an instance goes, only its own buckets go to others.
pub const BUCKETS: u32 = 128;

/// Where a destination leads.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Route {
    /// See [`kind`].
    pub kind: u32,
    /// L3 VNI of the VPC in which the next hop is looked up: the own one, or a peer's.
    pub vpc: Vni,
    /// The next hop's address for [`kind::PORT`]; the gateway for [`kind::NAT`].
    pub next_hop: Ip,
}

const _: () = assert!(size_of::<RouteKey>() == 24 && size_of::<Route>() == 24);
