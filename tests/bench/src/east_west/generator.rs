//! 64-byte frames through the whole path on one core: live frames are redirected out of the client's interface, and
//! everything up to TC ingress of the server's runs in that core's softirq. 1 / rate is the cost of the whole path.

use super::{CLIENT, Generator, Path, SERVER};
use crate::{
    Effort,
    abi::{Flow, SINK_PORT},
    flows::{self, Conversation, Family},
    machine,
    noise::Noise,
    programs::Programs,
    report::{Figure, Report, Target},
    samples::Samples,
};
use anyhow::{Context, Result, ensure};
use nix::net::if_::if_nametoindex;
use std::{
    net::IpAddr,
    thread::sleep,
    time::{Duration, Instant},
};
use vpc_bpf::{Frames, Hook, Link, TestRun, test_run};
use vpc_common::Ip;

const FLOWS: [usize; 2] = [1, 10_000];
/// How much faster than the kernel.
const TARGET: f64 = 2.0;
/// The most that may be lost for a figure to count.
const LOSS: f64 = 0.001;

/// One run of the generator.
struct Outcome {
    ns: f64,
    loss: f64,
}

pub(super) fn measure(paths: &[&dyn Path], programs: &Programs, effort: Effort, report: &mut Report) -> Result<()> {
    let (frames, rounds) = match effort {
        Effort::Quick => (200_000, 3),
        Effort::Full => (1_000_000, 9),
    };
    // The sinks stay: they let everything pass that is not for their port.
    let _sinks = paths.iter().map(|path| sink(*path, programs)).collect::<Result<Vec<_>>>()?;
    for path in paths {
        path.generator(Generator::On)?;
    }
    for count in FLOWS {
        let list = flow_list(count);
        let mut samples = vec![Samples::default(); paths.len()];
        let mut losses = vec![0.0_f64; paths.len()];
        let mut foreign: f64 = 0.0;
        for round in 0..=rounds {
            for (index, path) in paths.iter().enumerate() {
                let noise = Noise::start();
                let outcome = run(*path, programs, &list, if round == 0 { list.len() as u32 } else { frames })?;
                // The first round warms up: flows are decided, neighbours found.
                if round > 0 {
                    samples[index].push(outcome.ns);
                    losses[index] = losses[index].max(outcome.loss);
                    foreign = foreign.max(noise.cores());
                }
            }
        }
        let group = format!("64-byte frames, whole path on one core, {count} flows");
        for ((path, samples), loss) in paths.iter().zip(&samples).zip(&losses) {
            let mut note = format!("{:.2} Mpps, loss {:.2} %", 1e3 / samples.median(), loss * 100.0);
            if *loss > LOSS {
                note.push_str(" (too much)");
            }
            report.add(Figure::new(&group, path.name(), "ns", samples).foreign(foreign).note(note));
        }
        let ratio = samples[1].pairwise(&samples[0], |kernel, ours| kernel / ours);
        let lossless = losses[0] <= LOSS;
        report.add(
            Figure::new(&group, "ours against the kernel", "x", &ratio)
                .foreign(foreign)
                .target(lossless.then_some(Target::AtLeast(TARGET))),
        );
        let ratio = samples[2].pairwise(&samples[0], |bare, ours| bare / ours);
        report.add(Figure::new(&group, "ours against bare veth", "x", &ratio).foreign(foreign));
    }
    for path in paths {
        path.generator(Generator::Off)?;
    }
    Ok(())
}

fn sink(path: &dyn Path, programs: &Programs) -> Result<Link> {
    let program = programs.fd("sink")?;
    path.server()
        .enter(|| Ok::<_, anyhow::Error>(Link::attach(program, if_nametoindex("eth0")?, Hook::TcxIngress)?))?
        .with_context(|| format!("attach the sink of {}", path.name()))
}

fn flow_list(count: usize) -> Vec<Flow> {
    let server: Ip = IpAddr::from(SERVER).into();
    let flows: Vec<_> = (0..count)
        .map(|number| Conversation { remote: server, local_port: 20_000 + number as u16, remote_port: SINK_PORT })
        .collect();
    flows::from_guest(Family::V4, IpAddr::from(CLIENT).into(), &flows)
}

fn run(path: &dyn Path, programs: &Programs, flows: &[Flow], frames: u32) -> Result<Outcome> {
    let frame = flows::plain(Family::V4, path.macs(), flows.len());
    programs.set_frames(&frame, flows)?;
    let before = programs.counted()?;
    let generate = programs.fd("generate")?;
    let elapsed = path.client().enter(|| {
        // Device maps and the frames' own device are looked for in this thread's namespace.
        programs.set_device(if_nametoindex("eth0")?)?;
        machine::pin_to_last_cpu()?;
        machine::hurry()?;
        let data = flows::bytes(&frame);
        let run = TestRun { data: &data, repeat: frames, frames: Frames::Live { batch: 0 }, ..TestRun::default() };
        let start = Instant::now();
        test_run(generate, &run)?;
        Ok::<_, anyhow::Error>(start.elapsed())
    })??;
    let got = settled(programs)? - before;
    ensure!(got > 0, "{}: no frame arrived", path.name());
    Ok(Outcome { ns: elapsed.as_nanos() as f64 / got as f64, loss: 1.0 - got as f64 / f64::from(frames) })
}

/// What the sink has counted once nothing more arrives.
fn settled(programs: &Programs) -> Result<u64> {
    let mut last = programs.counted()?;
    for _ in 0..50 {
        sleep(Duration::from_millis(20));
        let now = programs.counted()?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}
