//! Makes packets and runs programs on them.

use crate::{
    Effort,
    abi::Frame,
    flows::{self, Family, Macs, Size, Tunnel},
    node_tables::TestNode,
    programs::Programs,
};
use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use std::{os::fd::BorrowedFd, process::Command};
use vpc_bpf::{Frames, Hook, Link, TestRun, test_run};
use vpc_common::Mac;

const XDP_REDIRECT: u32 = 4;

/// Which way the packets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    /// From the guest into the tunnel.
    Egress,
    /// From the tunnel to the guest.
    Ingress,
    /// No tunnel: what the least router costs at XDP.
    Floor,
}

/// What is measured.
pub(super) struct Subject<'a> {
    pub(super) name: &'static str,
    pub(super) program: BorrowedFd<'a>,
    pub(super) target: Option<f64>,
}

/// The benchmark's own programs and the interface that packets come from.
pub(super) struct Driver {
    pub(super) programs: Programs,
    ifindex: u32,
    /// Packets in a sample of flows that stand.
    pub(super) runs: u32,
    /// Samples.
    pub(super) rounds: u32,
}

impl Driver {
    /// With so many entries in the forwarder's tables.
    pub(super) fn new(effort: Effort, ifindex: u32, entries: u32) -> Result<Self> {
        let (runs, rounds) = match effort {
            Effort::Quick => (200_000, 3),
            Effort::Full => (1_000_000, 7),
        };
        let programs = Programs::load_with_room(entries)?;
        programs.set_device(ifindex)?;
        Ok(Self { programs, ifindex, runs, rounds })
    }

    /// One of the benchmark's own programs.
    pub(super) fn own(&self, name: &'static str, program: &str) -> Result<Subject<'_>> {
        Ok(Subject { name, program: self.programs.fd(program)?, target: None })
    }

    /// The program that does nothing.
    pub(super) fn nothing(&self, direction: Direction) -> Result<Subject<'_>> {
        match direction {
            Direction::Egress => self.own("nothing", "tc_nothing"),
            Direction::Ingress | Direction::Floor => self.own("nothing", "xdp_nothing"),
        }
    }

    /// ns of one packet, the rig included.
    pub(super) fn sample(&self, direction: Direction, subject: &Subject<'_>, runs: u32) -> Result<f64> {
        let data = flows::bytes(&self.programs.frame()?);
        let result = match direction {
            Direction::Egress => {
                let _attached = Link::attach(subject.program, self.ifindex, Hook::TcxIngress)
                    .with_context(|| format!("attach {}", subject.name))?;
                // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
                let context = [0, data.len() as u32, 0, self.ifindex, 0, 0];
                let run = TestRun {
                    data: &data,
                    context: bytemuck::cast_slice(&context),
                    repeat: runs,
                    frames: Frames::Live { batch: 0 },
                };
                test_run(self.programs.fd("deliver")?, &run)
            }
            Direction::Ingress | Direction::Floor => {
                self.programs.set_target(subject.program)?;
                let run = TestRun { data: &data, repeat: runs, ..TestRun::default() };
                test_run(self.programs.fd("drive")?, &run)
            }
        }
        .with_context(|| format!("run {}", subject.name))?;
        if direction != Direction::Egress && subject.name != "nothing" {
            ensure!(result.verdict == XDP_REDIRECT, "{} returned {}", subject.name, result.verdict);
        }
        Ok(result.duration.as_nanos() as f64)
    }
}

/// One of the product's programs.
pub(super) fn product<'a>(node: &'a TestNode, name: &'static str, program: &str, target: f64) -> Result<Subject<'a>> {
    Ok(Subject { name, program: node.loaded.program_fd(program)?, target: Some(target) })
}

/// The template of the frames that go one way.
pub(super) fn frame(node: &TestNode, direction: Direction, family: Family, flows: usize) -> Frame {
    match direction {
        Direction::Egress | Direction::Floor => {
            flows::plain(family, Size::B64, Macs { destination: Mac::ROUTER, source: node.mac }, flows)
        }
        Direction::Ingress => {
            let macs = Macs { destination: node.mac, source: Mac::ROUTER };
            let tunnel = Tunnel { source: node.remote_vtep, destination: node.vtep, vni: node.vni };
            flows::tunnelled(family, Size::B64, macs, tunnel, flows)
        }
    }
}

/// How many frames of the guest the product has forwarded that way.
pub(super) fn forwarded(node: &TestNode, direction: Direction) -> Result<u64> {
    let counters = node.counters()?;
    Ok(match direction {
        Direction::Egress => counters.egress.forwarded,
        Direction::Ingress | Direction::Floor => counters.ingress.forwarded,
    })
}

/// A veth in a network namespace of this process alone, with a receive queue that live frames can come from.
pub(super) fn device() -> Result<u32> {
    unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace: are you root?")?;
    for line in [
        "ip link add vpcbench0 type veth peer name vpcbench1",
        "ethtool -K vpcbench0 gro on",
        "ip link set vpcbench0 up",
        "ip link set vpcbench1 up",
    ] {
        let mut words = line.split(' ');
        let program = words.next().context("a program")?;
        let status = Command::new(program).args(words).status().with_context(|| line.to_owned())?;
        ensure!(status.success(), "{line}: {status}");
    }
    Ok(nix::net::if_::if_nametoindex("vpcbench0")?)
}
