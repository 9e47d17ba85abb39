//! The agent of one node: it keeps the kernel's maps, programs and devices as the topology wants them.
//!
//! Data flows one way: what is watched ([`watch`], [`netlink::events`]) gives what is desired and what is there; the
//! plan between them ([`maps::plan()`]) is applied in order. Nothing here is on the path of a packet.

pub mod agent;
pub mod announce;
mod answer;
pub mod args;
pub mod attach;
pub mod bpffs;
pub mod control;
pub mod datapath;
pub mod devices;
pub mod epoch;
mod foreign;
pub mod gateway;
pub mod generate;
pub mod growth;
pub mod host_stack;
pub mod instances;
pub mod liveness;
pub mod lock;
pub mod machine;
pub mod maps;
pub mod memory;
mod neighbour;
pub mod netlink;
pub mod notify;
pub mod offload;
pub mod packet_rate;
pub mod port_state;
pub mod reconcile;
pub mod render;
pub mod sweeper;
pub mod text;
pub mod topology;
pub mod underlay;
pub mod uninstall;
pub mod uplink;
pub mod usage;
mod vacated;
pub mod watch;
