//! Nodes, underlays and guests in network namespaces, for tests, the demo and benchmarks.
//!
//! A [`Fabric`] is built from a topology file: for each of its nodes a network and mount namespace in which a real
//! `vpc-agent` can run, for each zone a router of plain Linux forwarding, for each port a guest. Every object removes
//! what it made when it is dropped; what a killed process leaves behind is swept by the next [`Lab`] that starts.
//! Several labs can be up at once.

pub mod agent;
pub mod background;
pub mod blueprint;
pub mod capture;
mod claim;
pub mod command;
pub mod cpio;
pub mod crowd;
pub mod datagrams;
pub mod fabric;
pub mod foreign;
pub mod frames;
pub mod guest;
pub mod instance;
pub mod iperf;
pub mod netns;
pub mod node;
pub mod open_vswitch;
pub mod outside;
pub mod ping;
pub mod plain_vtep;
pub mod tap;
pub mod tcp;
pub mod traceroute;
pub mod underlay;
pub mod vm;
pub mod wait;

pub use agent::Agent;
pub use background::Background;
pub use blueprint::Blueprint;
pub use fabric::Fabric;
pub use guest::Guest;
pub use instance::Lab;
pub use netns::Netns;
pub use node::Node;
pub use open_vswitch::OpenVswitch;
pub use outside::Outside;
pub use tap::TapWire;
pub use underlay::{Underlay, UnderlayOptions};
