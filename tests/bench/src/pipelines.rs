//! ns per packet of the loaded programs by `BPF_PROG_TEST_RUN`, beside a forwarder that does the least.
//!
//! Every run sees a fresh packet of the next flow. At XDP a driver program makes it and tail-calls the program under
//! test; what the driver costs with a program that does nothing is taken off. At TC the packets are live frames that
//! the kernel makes skbs of and hands to TC ingress; what that costs with a classifier that does nothing is taken off.
//! All programs of one comparison run in turn, and what is taken off is of the same turn.

use crate::{
    Effort,
    abi::{Frame, NOWHERE, NextHop},
    flows::{self, Conversation, Family, Macs, Tunnel},
    machine,
    node_tables::{LOCAL, PEERS, TestNode, peer},
    noise::Noise,
    programs::Programs,
    report::{Figure, Report, Target},
    samples::Samples,
};
use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};
use std::{net::IpAddr, os::fd::BorrowedFd, process::Command};
use vpc_bpf::{Frames, Hook, Link, TestRun, test_run};
use vpc_common::{Ip, Mac, limits, maps::programs};

const SESSIONS: [usize; 3] = [1, 16_384, 1_000_000];
/// The number of sessions for which the targets hold.
const TARGET_SESSIONS: usize = 16_384;
const EGRESS_TARGET: f64 = 130.0;
const INGRESS_TARGET: f64 = 110.0;
const NEW_FLOW_TARGET: f64 = 450.0;
/// Flows that are opened in one sample.
const NEW_FLOWS: usize = 16_384;
/// Rules of the guest's security group.
const RULES: [usize; 4] = [10, 100, 1_000, 10_000];
/// How much more a new flow may cost under the most rules than under the fewest.
const RULES_TARGET: f64 = 1.2;
const XDP_REDIRECT: u32 = 4;

/// Which way the packets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    /// From the guest into the tunnel.
    Egress,
    /// From the tunnel to the guest.
    Ingress,
    /// No tunnel: what the least router costs at XDP.
    Floor,
}

/// What is measured.
struct Subject<'a> {
    name: &'static str,
    program: BorrowedFd<'a>,
    target: Option<f64>,
}

struct Rig {
    node: TestNode,
    programs: Programs,
    ifindex: u32,
    runs: u32,
    rounds: u32,
}

/// Measures everything into `report`.
///
/// # Errors
/// The kernel refuses something, or a program does not do its work.
pub fn run(effort: Effort, report: &mut Report) -> Result<()> {
    let ifindex = device()?;
    machine::pin_to_last_cpu()?;
    machine::hurry()?;
    let (runs, rounds) = match effort {
        Effort::Quick => (200_000, 3),
        Effort::Full => (1_000_000, 9),
    };
    let rig = |sessions| {
        let rig = Rig {
            node: TestNode::new(ifindex, sessions)?,
            programs: Programs::load_with_room(sessions)?,
            ifindex,
            runs,
            rounds,
        };
        rig.programs.set_device(ifindex)?;
        Ok::<_, anyhow::Error>(rig)
    };
    // Each begins with tables that were never used: sessions that come and go end up all over the memory of their table.
    // An agent begins with the smaller ones, and has the larger ones where there are so many sessions.
    of_sessions(&SESSIONS[..2], &rig(limits::SESSIONS_AT_START)?, report)?;
    of_sessions(&SESSIONS[2..], &rig(limits::SESSIONS)?, report)?;
    of_new_flows(&rig(limits::SESSIONS_AT_START)?, report)
}

fn remotes(index: usize) -> Result<Vec<Ip>> {
    (1..=PEERS).map(|number| address(&peer(number)[index])).collect()
}

fn of_new_flows(rig: &Rig, report: &mut Report) -> Result<()> {
    for (index, family) in [Family::V4, Family::V6].into_iter().enumerate() {
        let flows = flows::conversations(&remotes(index)?, NEW_FLOWS);
        for direction in [Direction::Egress, Direction::Ingress] {
            rig.new_flows(direction, family, address(LOCAL[index])?, &flows, report)?;
        }
    }
    Ok(())
}

fn of_sessions(counts: &[usize], rig: &Rig, report: &mut Report) -> Result<()> {
    for family in [Family::V4, Family::V6] {
        let index = usize::from(family == Family::V6);
        let local = address(LOCAL[index])?;
        let all = flows::conversations(&remotes(index)?, counts[counts.len() - 1]);
        // Upwards, so that the table holds just those sessions.
        for &sessions in counts {
            for direction in [Direction::Egress, Direction::Ingress, Direction::Floor] {
                rig.compare(direction, family, local, &all[..sessions], report)?;
            }
        }
    }
    Ok(())
}

impl Rig {
    fn compare(
        &self,
        direction: Direction,
        family: Family,
        local: Ip,
        flows: &[Conversation],
        report: &mut Report,
    ) -> Result<()> {
        let subjects = self.prepare(direction, family, local, flows)?;
        let group = format!("Pipelines, {}, {} sessions", family.name(), flows.len());
        if let Some(product) = subjects.iter().find(|subject| subject.target.is_some()) {
            self.warm_up(direction, product, family, flows.len())?;
        }
        let mut samples = vec![Samples::default(); subjects.len()];
        let mut foreign: f64 = 0.0;
        for _ in 0..self.rounds {
            for (subject, samples) in subjects.iter().zip(&mut samples) {
                let noise = Noise::start();
                let before = self.forwarded(direction)?;
                samples.push(self.sample(direction, subject, self.runs)?);
                foreign = foreign.max(noise.cores());
                let expected = if subject.target.is_some() { u64::from(self.runs) } else { 0 };
                let forwarded = self.forwarded(direction)? - before;
                ensure!(forwarded == expected, "{}: {forwarded} of {expected} packets forwarded", subject.name);
            }
        }
        let (nothing, rest) = samples.split_first().context("the program that does nothing")?;
        for (subject, samples) in subjects[1..].iter().zip(rest) {
            let bound = subject.target.filter(|_| flows.len() == TARGET_SESSIONS).map(Target::AtMost);
            let figure = Figure::new(&group, subject.name, "ns", &samples.pairwise(nothing, |all, rest| all - rest))
                .foreign(foreign)
                .target(bound)
                .note(format!("+ {:.0} ns of the rig", nothing.median()));
            report.add(figure);
        }
        Ok(())
    }

    /// What it costs when every packet opens a flow, by the number of rules.
    fn new_flows(
        &self,
        direction: Direction,
        family: Family,
        local: Ip,
        flows: &[Conversation],
        report: &mut Report,
    ) -> Result<()> {
        let subjects = self.prepare(direction, family, local, flows)?;
        let nothing = subjects.first().context("the program that does nothing")?;
        let product = subjects.last().context("the product")?;
        let mut samples = vec![Samples::default(); RULES.len()];
        let mut foreign: f64 = 0.0;
        for _ in 0..self.rounds {
            for (rules, samples) in RULES.iter().zip(&mut samples) {
                self.node.judge_by(*rules)?;
                self.node.forget_sessions(family)?;
                let noise = Noise::start();
                let rest = self.sample(direction, nothing, flows.len() as u32)?;
                let before = self.forwarded(direction)?;
                samples.push(self.sample(direction, product, flows.len() as u32)? - rest);
                foreign = foreign.max(noise.cores());
                let (forwarded, sessions) = (self.forwarded(direction)? - before, self.node.sessions(family)?);
                ensure!(
                    forwarded == flows.len() as u64 && sessions == flows.len(),
                    "{rules} rules: {forwarded} of {} flows forwarded, {sessions} sessions",
                    flows.len()
                );
            }
        }
        let group = format!("New flows, {}, {direction:?}", family.name());
        for (rules, of_rules) in RULES.iter().zip(&samples) {
            let figure = Figure::new(&group, format!("{rules} rules each way"), "ns", of_rules)
                .foreign(foreign)
                .target(Some(Target::AtMost(NEW_FLOW_TARGET)));
            report.add(figure);
        }
        let (fewest, most) = (&samples[0], &samples[RULES.len() - 1]);
        let ratio = most.pairwise(fewest, |most, fewest| most / fewest);
        let figure = Figure::new(&group, "most rules / fewest", "x", &ratio).target(Some(Target::AtMost(RULES_TARGET)));
        report.add(figure);
        self.node.forget_sessions(family)
    }

    /// Makes the frames, fills the forwarder's table, and says what is measured: first what does nothing.
    fn prepare(
        &self,
        direction: Direction,
        family: Family,
        local: Ip,
        flows: &[Conversation],
    ) -> Result<Vec<Subject<'_>>> {
        let node = &self.node;
        let list = match direction {
            Direction::Egress | Direction::Floor => flows::from_guest(family, local, flows),
            Direction::Ingress => flows::to_guest(family, local, flows),
        };
        let frame = self.frame(direction, family, flows.len());
        self.programs.set_frames(&frame, &list)?;
        let next_hop = NextHop { macs: [1, 2, 3], ifindex: NOWHERE };
        match (direction, family) {
            (Direction::Ingress, _) => {}
            (_, Family::V4) => self.programs.table("FORWARD_V4")?.set_all(&flows::forward_v4(&list, next_hop))?,
            (_, Family::V6) => self.programs.table("FORWARD_V6")?.set_all(&flows::forward_v6(&list, next_hop))?,
        }
        let own =
            |name, program| Ok::<_, anyhow::Error>(Subject { name, program: self.programs.fd(program)?, target: None });
        let product = |name, program, target| {
            Ok::<_, anyhow::Error>(Subject { name, program: node.loaded.program_fd(program)?, target: Some(target) })
        };
        match direction {
            Direction::Egress => Ok(vec![
                own("nothing", "tc_nothing")?,
                own("one-lookup forwarder, no push (TC)", "tc_forward")?,
                own("VXLAN push alone (TC)", "tc_push")?,
                product("egress established, with push (TC, vpc_port)", programs::PORT, EGRESS_TARGET)?,
            ]),
            Direction::Ingress => Ok(vec![
                own("nothing", "xdp_nothing")?,
                own("pop alone (XDP)", "xdp_pop")?,
                product("decap and delivery decision (XDP, vpc_uplink_xdp)", programs::UPLINK_XDP, INGRESS_TARGET)?,
            ]),
            Direction::Floor => {
                Ok(vec![own("nothing", "xdp_nothing")?, own("one-lookup forwarder, no tunnel (XDP)", "xdp_forward")?])
            }
        }
    }

    fn frame(&self, direction: Direction, family: Family, flows: usize) -> Frame {
        let node = &self.node;
        match direction {
            Direction::Egress | Direction::Floor => {
                flows::plain(family, Macs { destination: Mac::ROUTER, source: node.mac }, flows)
            }
            Direction::Ingress => {
                let macs = Macs { destination: node.mac, source: Mac::ROUTER };
                let tunnel = Tunnel { source: node.remote_vtep, destination: node.vtep, vni: node.vni };
                flows::tunnelled(family, macs, tunnel, flows)
            }
        }
    }

    /// Lets every flow be decided once.
    fn warm_up(&self, direction: Direction, product: &Subject<'_>, family: Family, flows: usize) -> Result<()> {
        let before = self.forwarded(direction)?;
        self.sample(direction, product, flows as u32)?;
        let forwarded = self.forwarded(direction)? - before;
        if forwarded != flows as u64 {
            bail!("{}: only {forwarded} of {flows} flows were forwarded", product.name);
        }
        // A flow without a session is forwarded too, by the slow path.
        let sessions = self.node.sessions(family)?;
        ensure!(sessions == flows, "{}: {sessions} sessions of {flows} flows", product.name);
        Ok(())
    }

    /// ns of one packet, the rig included.
    fn sample(&self, direction: Direction, subject: &Subject<'_>, runs: u32) -> Result<f64> {
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

    fn forwarded(&self, direction: Direction) -> Result<u64> {
        let counters = self.node.counters()?;
        Ok(match direction {
            Direction::Egress => counters.egress.forwarded,
            Direction::Ingress | Direction::Floor => counters.ingress.forwarded,
        })
    }
}

fn address(text: &str) -> Result<Ip> {
    Ok(text.parse::<IpAddr>().with_context(|| format!("address {text}"))?.into())
}

/// A veth in a network namespace of this process alone, with a receive queue that live frames can come from.
fn device() -> Result<u32> {
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
