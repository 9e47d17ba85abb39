//! The whole path between two guests on two nodes: ours, the Linux kernel doing the same job without a firewall, and bare
//! veth as the limit. All three are up at once and are measured in turn.

use crate::{
    Effort, Only,
    flows::Size,
    programs::Programs,
    report::Report,
    rig::{
        Bare, Kernel, Mode, Ours, Path, Receive, Wire,
        generator::{Generators, Rival},
        rules::Rules,
        sockets::{self, Contest, Field},
    },
};
use anyhow::Result;
use vpc_lab::Lab;

/// How much faster than the kernel.
const TARGET: f64 = 2.0;

/// Measures everything into `report`.
///
/// # Errors
/// The agents do not come up, the kernel refuses something, or packets do not arrive.
pub fn run(effort: Effort, only: &Only, report: &mut Report) -> Result<()> {
    if only.wants("frames") || only.wants("sockets") {
        let programs = Programs::load()?;
        let ours = Ours::new(Wire::Frames, Mode::Xdp, Rules::None)?;
        let by_tc = Ours::new(Wire::Frames, Mode::Tc, Rules::None)?;
        let (lab, other) = (Lab::new()?, Lab::new()?);
        let kernel = Kernel::new(&lab, Wire::Frames, Receive::Plain)?;
        let behind_xdp = Kernel::new(&other, Wire::Frames, Receive::BehindXdp(&programs))?;
        let bare = Bare::new(&lab, Wire::Frames)?;
        let paths: [&dyn Path; 5] = [&ours, &kernel, &bare, &by_tc, &behind_xdp];
        if only.wants("frames") {
            let generator = Generators::start(&paths[..4], &programs, effort)?;
            for flows in [1, 10_000] {
                let group = format!("64-byte frames, whole path on one core, {flows} flows");
                // By XDP as from a NIC, and by TC, which an agent takes on this rig's veths if it is not told otherwise.
                let kernel = |ours| Rival { ours, number: 1, target: Some(TARGET) };
                let rivals = [kernel(0), kernel(3), Rival { ours: 0, number: 2, target: None }];
                generator.established(&group, Size::B64, flows, &rivals, report)?;
            }
            generator.stop()?;
        }
        if only.wants("sockets") {
            let contests = [Contest::reach(0, 4), Contest::reach(3, 1), Contest::show(0, 1)];
            let bulk = Field { paths: &paths, contests: &contests, what: "MTU frames on the wire, GRO on" };
            sockets::tcp(bulk, effort, report)?;
            let contests = [Contest::reach(0, 1), Contest::reach(0, 4), Contest::reach(3, 1)];
            let small = Field { paths: &paths, contests: &contests, what: "no rules" };
            sockets::udp(small, effort, report)?;
            sockets::request_response(small, effort, report)?;
        }
    }
    if only.wants("gso") {
        with_segments_across(effort, report)?;
    }
    Ok(())
}

fn with_segments_across(effort: Effort, report: &mut Report) -> Result<()> {
    let ours = Ours::new(Wire::Gso, Mode::Tc, Rules::None)?;
    let lab = Lab::new()?;
    let kernel = Kernel::new(&lab, Wire::Gso, Receive::Plain)?;
    let paths: [&dyn Path; 3] = [&ours, &kernel, &Bare::new(&lab, Wire::Gso)?];
    let field = Field { paths: &paths, contests: &[Contest::reach(0, 1)], what: "GSO frames across" };
    sockets::tcp(field, effort, report)
}
