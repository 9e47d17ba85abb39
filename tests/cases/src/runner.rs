//! What both runners can do.

use crate::{
    case::{Bucket, Hook, Led, Offload},
    outcome::{Counts, Outcome, Sessions},
    state::State,
};
use anyhow::Result;
use vpc_common::{
    Ip,
    nat::{ExternalPort, NatIn},
};

/// A packet that arrives.
#[derive(Clone, Debug)]
pub struct Arrival<'a> {
    /// Where.
    pub hook: Hook,
    /// Index of the interface, for [`Hook::Port`].
    pub ifindex: u32,
    /// `skb->mark`, for [`Hook::Offload`].
    pub mark: u32,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Payload of one segment of a GSO frame, bytes.
    pub gso_size: u32,
    /// What the workload leaves to its interface.
    pub offload: Offload,
    /// Copies that are expected, so that a runner knows for how many to wait.
    pub copies: usize,
}

/// The packet code with its tables, on the host or in the kernel.
pub trait Runner {
    /// Starts afresh: these tables, no sessions, full buckets, counters at zero.
    ///
    /// # Errors
    /// The kernel refuses it.
    fn start(&mut self, state: &State) -> Result<()>;
    /// Puts other tables in the place of the present ones; sessions, buckets and counters stay.
    ///
    /// # Errors
    /// The kernel refuses it.
    fn change(&mut self, state: &State) -> Result<()>;
    /// Runs the programs of a hook on a packet.
    ///
    /// # Errors
    /// The kernel refuses it.
    fn run(&mut self, arrival: &Arrival<'_>) -> Result<Outcome>;
    /// Lets time pass, milliseconds.
    ///
    /// # Errors
    /// The kernel refuses it.
    fn wait(&mut self, milliseconds: u64) -> Result<()>;
    /// Empties a bucket; no token comes until [`Runner::wait`].
    ///
    /// # Errors
    /// The kernel refuses it.
    fn exhaust(&mut self, slot: u16, bucket: Bucket) -> Result<()>;
    /// Puts a NAT mapping in.
    ///
    /// # Errors
    /// The kernel refuses it.
    fn map(&mut self, key: &ExternalPort, mapping: &NatIn, led: Led) -> Result<()>;
    /// The counters.
    ///
    /// # Errors
    /// The kernel refuses it.
    fn counts(&self) -> Result<Counts>;
    /// The sessions.
    ///
    /// # Errors
    /// The kernel refuses it.
    fn sessions(&self) -> Result<Sessions>;
}

/// The outer headers of a tunnel packet, as the kernel's tunnel device tells them: source, VNI, TOS, and their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The sending VTEP.
    pub source: Ip,
    /// The network.
    pub vni: u32,
    /// TOS or traffic class.
    pub tos: u8,
    /// Bytes in front of the inner frame.
    pub length: usize,
}
