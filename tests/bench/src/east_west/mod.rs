//! The whole path between two guests on two nodes: ours, the Linux kernel doing the same job, and bare veth as the limit.
//! All three are up at once and are measured in turn.

mod bare;
mod cache_line;
mod generator;
mod kernel;
mod ours;
mod sockets;

use crate::{Effort, flows::Macs, programs::Programs, report::Report};
use anyhow::Result;
use bare::Bare;
use kernel::{Kernel, Receive};
use ours::{Ours, ReceiveMode};
use std::net::Ipv4Addr;
use vpc_lab::{Lab, Netns};

/// MTU of the underlay.
const UNDERLAY_MTU: u32 = 1_500;
/// What fits into the tunnel.
const GUEST_MTU: u32 = UNDERLAY_MTU - vpc_common::limits::OVERHEAD_V4;
/// Address of the guest that sends.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 10);
/// Address of the guest that is sent to, in another subnet.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 10);

/// What crosses the underlay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wire {
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

/// Two guests and what is between them.
trait Path {
    /// As it is printed.
    fn name(&self) -> &'static str;
    /// The guest that sends.
    fn client(&self) -> &Netns;
    /// The guest that is sent to.
    fn server(&self) -> &Netns;
    /// Ethernet addresses of what the client sends to the server.
    fn macs(&self) -> Macs;
    /// Makes the path fit for frames from the client's XDP, and back.
    fn generator(&self, state: Generator) -> Result<()>;
}

/// Whether the frame generator is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Generator {
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
}

/// Measures everything into `report`.
///
/// # Errors
/// The agents do not come up, the kernel refuses something, or packets do not arrive.
pub fn run(effort: Effort, report: &mut Report) -> Result<()> {
    {
        let programs = Programs::load()?;
        let ours = Ours::new(Wire::Frames, ReceiveMode::Xdp)?;
        let by_tc = Ours::new(Wire::Frames, ReceiveMode::Tc)?;
        let (lab, other) = (Lab::new()?, Lab::new()?);
        let kernel = Kernel::new(&lab, Wire::Frames, Receive::Plain)?;
        let behind_xdp = Kernel::new(&other, Wire::Frames, Receive::BehindXdp(&programs))?;
        let bare = Bare::new(&lab, Wire::Frames)?;
        let paths: [&dyn Path; 5] = [&ours, &kernel, &bare, &by_tc, &behind_xdp];
        generator::measure(&paths[..4], &programs, effort, report)?;
        sockets::tcp(&paths, Wire::Frames, effort, report)?;
        sockets::udp(&paths[..3], effort, report)?;
        sockets::request_response(&paths[..3], effort, report)?;
    }
    let ours = Ours::new(Wire::Gso, ReceiveMode::Tc)?;
    let lab = Lab::new()?;
    let kernel = Kernel::new(&lab, Wire::Gso, Receive::Plain)?;
    sockets::tcp(&[&ours, &kernel, &Bare::new(&lab, Wire::Gso)?], Wire::Gso, effort, report)
}
