//! Packet logic of the VPC router, free of I/O: the same code runs in the kernel and under tests.
//!
//! [`egress`] is what happens to a packet from a port ([`shortcut`]: to most of them in packet-rate mode), [`ingress`] to one
//! from the underlay, [`external`] to one from outside: each a screen of named stages. A stage returns what the next one
//! needs, or the [`Verdict`] that ends the packet's way.
//!
//! *Invariant*: no stage calls the next; no I/O, no clock but the one in [`Tables`]; no panic; no `unsafe`.
#![no_std]
#![forbid(unsafe_code)]

pub mod checksum;
pub mod clock;
pub mod conntrack;
pub mod datagram;
pub mod decide;
pub mod deliver;
pub mod egress;
pub mod encap;
pub mod external;
pub mod family;
pub mod flood;
pub mod fragment;
pub mod global;
pub mod ingress;
pub mod mapping;
pub mod moved;
pub mod nat;
pub mod neighbour;
pub mod offload;
pub mod packet;
pub mod parse;
pub mod part;
pub mod policy;
pub mod reflector;
pub mod respond;
pub mod rewrite;
pub mod route;
pub mod scratch;
pub mod session;
pub mod shortcut;
pub mod source_guard;
pub mod tables;
pub mod token;
pub mod uplink;
pub mod verdict;

pub use packet::Packet;
pub use part::Part;
pub use scratch::Scratch;
pub use tables::Tables;
pub use verdict::{Stage, Verdict};
