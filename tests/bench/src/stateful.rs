//! The same job with connection tracking and security groups: ours, the Linux kernel with nftables and the same rules, and by
//! sockets Open vSwitch; then from a guest to the outside by NAT, on one node.

use crate::{
    Effort, Only,
    flows::Size,
    programs::Programs,
    report::Report,
    rig::{
        Kernel, KernelNat, KernelNear, Mode, Ours, OursNat, Ovs, Path, Receive, Translation, Wire,
        generator::{Generators, Rival},
        rules::{Form, Rules},
        sockets::{self, Contest, Field},
    },
};
use anyhow::Result;
use vpc_lab::Lab;

/// Rules in force, but for the sweep.
const RULES: usize = 20;
const SWEEP: [usize; 4] = [10, 100, 1_000, 10_000];
/// Flows that are opened in one sample; by NAT so few that each sample has external ports of its own.
const NEW_FLOWS: usize = 20_000;
const NEW_FLOWS_BY_NAT: usize = 5_000;
/// How much faster than the kernel: flows that stand, every packet a new flow, the same by NAT, and connections a second.
const ESTABLISHED: f64 = 2.5;
/// The same where the sender's port is in packet-rate mode.
const PACKET_RATE: f64 = 5.0;
const FRESH: f64 = 3.0;
const NAT: f64 = 1.5;
/// Between guests of one node, both of whom are tracked by ours.
const NEAR: f64 = 1.5;
const CONNECTIONS: f64 = 1.2;
/// How much more a new flow may cost under the most rules than under the fewest.
const SWEEP_RATIO: f64 = 1.2;

/// Measures everything into `report`.
///
/// # Errors
/// The agents do not come up, the kernel refuses something, or packets do not arrive.
pub fn run(effort: Effort, only: &Only, report: &mut Report) -> Result<()> {
    let programs = Programs::load()?;
    if only.wants("nodes") {
        between_nodes(&programs, effort, report)?;
    }
    if only.wants("sockets") {
        by_sockets(effort, report)?;
    }
    if only.wants("near") {
        on_one_node(&programs, effort, report)?;
    }
    if only.wants("nat") {
        to_the_outside(&programs, Translation::Ports, NEW_FLOWS_BY_NAT, effort, report)?;
    }
    if only.wants("elastic") {
        to_the_outside(&programs, Translation::Address, NEW_FLOWS, effort, report)?;
    }
    if only.wants("rules") {
        by_rules(&programs, effort, report)?;
    }
    if only.wants("gso") {
        with_segments_across(effort, report)?;
    }
    Ok(())
}

fn with_segments_across(effort: Effort, report: &mut Report) -> Result<()> {
    let ours = Ours::new(Wire::Gso, Mode::Tc, Rules::Some(RULES))?;
    let lab = Lab::new()?;
    let mut kernel = Kernel::new(&lab, Wire::Gso, Receive::Plain)?;
    kernel.judge_by(RULES, Form::List)?;
    let what = format!("GSO frames across, {RULES} rules");
    let field = Field { paths: &[&ours, &kernel], contests: &[Contest::reach(0, 1)], what: &what };
    sockets::tcp(field, effort, report)
}

fn between_nodes(programs: &Programs, effort: Effort, report: &mut Report) -> Result<()> {
    let ours = Ours::new(Wire::Frames, Mode::Xdp, Rules::Some(RULES))?;
    let packets = Ours::new(Wire::Frames, Mode::PacketRate, Rules::Some(RULES))?;
    let lab = Lab::new()?;
    let mut kernel = Kernel::new(&lab, Wire::Frames, Receive::Plain)?;
    kernel.judge_by(RULES, Form::List)?;
    frames(
        &[&ours, &kernel, &packets],
        ", both nodes on one core",
        (NEW_FLOWS, [ESTABLISHED, FRESH]),
        (programs, effort),
        report,
    )
}

fn by_sockets(effort: Effort, report: &mut Report) -> Result<()> {
    let ours = Ours::new(Wire::Frames, Mode::Xdp, Rules::Some(RULES))?;
    let by_tc = Ours::new(Wire::Frames, Mode::Tc, Rules::Some(RULES))?;
    let lab = Lab::new()?;
    let mut kernel = Kernel::new(&lab, Wire::Frames, Receive::Plain)?;
    kernel.judge_by(RULES, Form::List)?;
    let ovs = Ovs::new(&lab, RULES)?;
    let paths: [&dyn Path; 4] = [&ours, &kernel, &ovs, &by_tc];
    let what = format!("MTU frames on the wire, GRO on, {RULES} rules");
    let contests = [Contest::reach(3, 1), Contest::show(0, 1), Contest::show(3, 2)];
    sockets::tcp(Field { paths: &paths, contests: &contests, what: &what }, effort, report)?;
    let what = format!("{RULES} rules");
    let contests = [Contest::reach(0, 1), Contest::reach(3, 1), Contest::show(0, 2)];
    let small = Field { paths: &paths, contests: &contests, what: &what };
    sockets::udp(small, effort, report)?;
    sockets::request_response(small, effort, report)?;
    sockets::connections(small, CONNECTIONS, effort, report)
}

fn on_one_node(programs: &Programs, effort: Effort, report: &mut Report) -> Result<()> {
    let ours = Ours::on_one_node(Rules::Some(RULES))?;
    let lab = Lab::new()?;
    let kernel = KernelNear::new(&lab, RULES)?;
    let paths: [&dyn Path; 2] = [&ours, &kernel];
    frames(&paths, " between guests of one node", (NEW_FLOWS, [NEAR, NEAR]), (programs, effort), report)
}

fn to_the_outside(
    programs: &Programs,
    translation: Translation,
    fresh: usize,
    effort: Effort,
    report: &mut Report,
) -> Result<()> {
    let ours = OursNat::new(RULES, translation)?;
    let lab = Lab::new()?;
    let kernel = KernelNat::new(&lab, RULES, translation)?;
    let paths: [&dyn Path; 2] = [&ours, &kernel];
    let what = match translation {
        Translation::Ports => " by source NAT, one node",
        Translation::Address => " by an elastic IP, one node",
    };
    frames(&paths, what, (fresh, [NAT, NAT]), (programs, effort), report)
}

/// Generated frames of flows that are new, and of flows that stand: `what` is said behind their size.
fn frames(
    paths: &[&dyn Path],
    what: &str,
    (new_flows, [established, fresh]): (usize, [f64; 2]),
    (programs, effort): (&Programs, Effort),
    report: &mut Report,
) -> Result<()> {
    let kernel = |target| Rival { ours: 0, number: 1, target: Some(target) };
    let packet_rate = (paths.len() > 2).then_some(Rival { ours: 2, number: 1, target: Some(PACKET_RATE) });
    let of_standing: Vec<_> = std::iter::once(kernel(established)).chain(packet_rate).collect();
    let shown: Vec<_> = of_standing.iter().map(|rival| Rival { target: None, ..*rival }).collect();
    let generators = Generators::start(paths, programs, effort)?;
    generators.fresh(
        &format!("{}{what}, {RULES} rules, every packet a new flow", Size::B64.name()),
        new_flows,
        &[kernel(fresh)],
        report,
    )?;
    for (size, flows, rivals) in
        [(Size::B64, 1, &of_standing), (Size::B64, 10_000, &of_standing), (Size::B512, 1, &shown)]
    {
        let group = format!("{}{what}, {RULES} rules, {flows} established flows", size.name());
        generators.established(&group, size, flows, rivals, report)?;
    }
    generators.stop()
}

/// New flows by the number of rules.
fn by_rules(programs: &Programs, effort: Effort, report: &mut Report) -> Result<()> {
    let ours = Ours::new(Wire::Frames, Mode::Xdp, Rules::Some(SWEEP[0]))?;
    let (lab, other) = (Lab::new()?, Lab::new()?);
    let mut list = Kernel::new(&lab, Wire::Frames, Receive::Plain)?;
    let mut set = Kernel::new(&other, Wire::Frames, Receive::Plain)?;
    let heading = "64-byte frames, both nodes on one core, every packet a new flow";
    let group = |rules| format!("{heading}, {rules} rules");
    for rules in SWEEP {
        ours.judge_by(rules)?;
        list.judge_by(rules, Form::List)?;
        set.judge_by(rules, Form::Set)?;
        let paths: [&dyn Path; 3] = [&ours, &list, &set];
        let generators = Generators::start(&paths, programs, effort)?;
        let rivals = [1, 2].map(|number| Rival { ours: 0, number, target: None });
        generators.fresh(&group(rules), NEW_FLOWS, &rivals, report)?;
        generators.stop()?;
    }
    let [fewest, .., most] = SWEEP.map(group);
    for (number, name) in [ours.name(), list.name(), set.name()].into_iter().enumerate() {
        let target = (number == 0).then_some(SWEEP_RATIO);
        report.ratio(heading, &format!("{name}: most rules / fewest"), [(&most, name), (&fewest, name)], target)?;
    }
    Ok(())
}
