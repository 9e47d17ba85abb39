//! Guests and what is between them: ours, the Linux kernel doing the same job, Open vSwitch doing it, and bare veth; and the
//! loads they are put under.

mod bare;
mod cache_line;
mod conntrack;
pub mod generator;
mod kernel;
mod kernel_nat;
mod kernel_near;
mod ours;
mod ours_nat;
mod ovs;
pub mod rules;
pub mod sockets;
mod steering;

pub use bare::Bare;
pub use kernel::{Kernel, Receive};
pub use kernel_nat::KernelNat;
pub use kernel_near::KernelNear;
pub use ours::{Mode, Ours};
pub use ours_nat::OursNat;
pub use ovs::Ovs;

use crate::{flows::Macs, machine};
use anyhow::Result;
use std::{net::Ipv4Addr, process::Command};
use vpc_lab::{Agent, Netns, command::output};

/// MTU of the underlay.
const UNDERLAY_MTU: u32 = 1_500;
/// What fits into the tunnel.
const GUEST_MTU: u32 = UNDERLAY_MTU - vpc_common::limits::OVERHEAD_V4;
/// Address of the guest that sends.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 10);
/// Address of the guest that is sent to, in another subnet.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 10);
/// Address of the server outside.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);

/// What crosses the underlay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wire {
    /// Frames of at most the MTU, as on a real wire; the receiver may merge them.
    Frames,
    /// Whatever the sender hands over, up to 64 KiB.
    Gso,
}

impl Wire {
    /// Settings of `ethtool -K` for an uplink.
    const fn features(self) -> &'static str {
        match self {
            Self::Frames => "tso off gso off tx off gro on",
            Self::Gso => "tso on gso on tx on gro on",
        }
    }
}

/// What the outside sees of a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Translation {
    /// Ports of an address that guests share.
    Ports,
    /// An address of its own.
    Address,
}

impl Translation {
    /// As part of a namespace's name.
    const fn word(self) -> &'static str {
        match self {
            Self::Ports => "snat",
            Self::Address => "elastic",
        }
    }
}

/// Two machines and what is between them.
pub trait Path {
    /// As it is printed.
    fn name(&self) -> &'static str;
    /// The guest that sends.
    fn client(&self) -> &Netns;
    /// The one that is sent to.
    fn server(&self) -> &Netns;
    /// What is part of the client's machine, and what of the server's.
    fn machines(&self) -> [Vec<&Netns>; 2] {
        [vec![self.client()], vec![self.server()]]
    }
    /// The server's address.
    fn server_address(&self) -> Ipv4Addr {
        SERVER
    }
    /// Ethernet addresses of what the client sends to the server.
    fn macs(&self) -> Macs;
    /// Makes the path fit for frames from the client's XDP, and back.
    ///
    /// # Errors
    /// The kernel refuses.
    fn generator(&self, state: Generator) -> Result<()>;
    /// Removes all state of flows.
    ///
    /// # Errors
    /// The kernel, or an agent, refuses.
    fn forget(&self) -> Result<()>;
}

/// Whether the frame generator is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Generator {
    /// It is: the far end of the client's interface must poll, or XDP's frames vanish.
    On,
    /// It is not.
    Off,
}

impl Generator {
    const fn gro(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }
    /// Keeps an agent on the CPU that is measured, or lets it go. What it sends (probes of next hops) wakes the far end of a
    /// wire on the CPU it runs on, and for as long as frames come that CPU then does a part of the work: the other one is
    /// quicker and the queue between them overflows.
    fn keep(self, agent: &Agent) -> Result<()> {
        let last = machine::last_cpu();
        let cpus = match self {
            Self::On => last.to_string(),
            Self::Off => format!("0-{last}"),
        };
        let pid = agent.pid().to_string();
        output(Command::new("taskset").args(["--all-tasks", "--cpu-list", "--pid", &cpus, &pid])).map(drop)
    }
}
