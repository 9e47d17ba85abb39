//! Frames through the whole path on one core: live frames are redirected out of the client's interface, and
//! everything up to TC ingress of the server's runs in that core's softirq. 1 / rate is the cost of the whole path.

use super::{CLIENT, Generator, Path};
use crate::{
    Effort,
    abi::{Frame, SINK_PORT},
    flows::{self, Conversation, Family, FiveTuple, Size},
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

/// The most that may be lost for a figure to count.
const LOSS: f64 = 0.001;
/// The client's first port.
const FIRST_PORT: usize = 2_000;
/// How many ports the client uses.
const PORTS: usize = 60_000;

/// How long one kind of traffic is measured at most, once there are samples enough: where samples take longer there are
/// fewer.
const LONG_ENOUGH: Duration = Duration::from_secs(8);
/// So many samples are enough for a figure with a target, and for one that is only shown.
const ENOUGH: usize = 7;
const ENOUGH_TO_SHOW: usize = 3;

/// A path that one of ours is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Rival {
    /// The number of ours.
    pub ours: usize,
    /// The number of the other.
    pub number: usize,
    /// How much faster ours should be.
    pub target: Option<f64>,
}

/// Paths that are fit for generated frames.
pub struct Generators<'a> {
    paths: &'a [&'a dyn Path],
    programs: &'a Programs,
    frames: u32,
    rounds: Rounds,
}

/// How many samples there are of what.
#[derive(Clone, Copy)]
struct Rounds {
    /// At most; short ones, so that those which are compared lie close together: this machine changes its pace.
    established: usize,
    /// Ports of the client last for so many.
    fresh: usize,
}

/// What stands at the far end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// What counts, and drops.
    Sink,
    /// What counts, and sends back.
    Reflector,
}

impl End {
    const fn program(self) -> &'static str {
        match self {
            Self::Sink => "sink",
            Self::Reflector => "reflect",
        }
    }
}

/// Frames of some flows.
struct Load {
    frame: Frame,
    flows: Vec<FiveTuple>,
}

impl Load {
    fn new(path: &dyn Path, size: Size, first_port: usize, count: usize) -> Self {
        let remote = IpAddr::from(path.server_address()).into();
        let flows: Vec<_> = (first_port..first_port + count)
            .map(|port| Conversation { remote, local_port: port as u16, remote_port: SINK_PORT })
            .collect();
        Self {
            frame: flows::plain(Family::V4, size, path.macs(), count),
            flows: flows::from_guest(Family::V4, size, IpAddr::from(CLIENT).into(), &flows),
        }
    }
}

/// What became of some frames.
struct Outcome {
    ns: f64,
    loss: f64,
}

impl<'a> Generators<'a> {
    /// Makes the paths fit.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn start(paths: &'a [&'a dyn Path], programs: &'a Programs, effort: Effort) -> Result<Self> {
        let (frames, rounds) = match effort {
            Effort::Quick => (200_000, Rounds { established: 3, fresh: 3 }),
            Effort::Full => (200_000, Rounds { established: 31, fresh: 9 }),
        };
        paths.iter().try_for_each(|path| path.generator(Generator::On))?;
        Ok(Self { paths, programs, frames, rounds })
    }

    /// Makes them what they were.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn stop(self) -> Result<()> {
        self.paths.iter().try_for_each(|path| path.generator(Generator::Off))
    }

    /// Flows that both sides have spoken in.
    ///
    /// # Errors
    /// Frames do not arrive, or the kernel refuses something.
    pub fn established(
        &self,
        group: &str,
        size: Size,
        flows: usize,
        rivals: &[Rival],
        report: &mut Report,
    ) -> Result<()> {
        let load = |path: &dyn Path| Load::new(path, size, FIRST_PORT, flows);
        for path in self.paths {
            self.run(*path, &load(*path), flows as u32, End::Reflector)?;
        }
        self.measure(group, self.rounds.established, rivals, report, |path, _| Ok((load(path), self.frames)))
    }

    /// Every packet opens a flow, so many in a sample. All state is forgotten before each; the ports are other ones as
    /// long as there are some, since mappings of NAT outlive their flows.
    ///
    /// # Errors
    /// As for [`Self::established`].
    pub fn fresh(&self, group: &str, flows: usize, rivals: &[Rival], report: &mut Report) -> Result<()> {
        self.measure(group, self.rounds.fresh, rivals, report, |path, round| {
            path.forget()?;
            Ok((Load::new(path, Size::B64, FIRST_PORT + round * flows % PORTS, flows), flows as u32))
        })?;
        self.paths.iter().try_for_each(|path| path.forget())
    }

    fn measure(
        &self,
        group: &str,
        rounds: usize,
        rivals: &[Rival],
        report: &mut Report,
        load: impl Fn(&dyn Path, usize) -> Result<(Load, u32)>,
    ) -> Result<()> {
        let mut samples = vec![Samples::default(); self.paths.len()];
        let mut losses = vec![0.0_f64; self.paths.len()];
        let mut foreign: f64 = 0.0;
        let enough = if rivals.iter().any(|rival| rival.target.is_some()) { ENOUGH } else { ENOUGH_TO_SHOW };
        let start = Instant::now();
        // The first round warms up.
        for round in 0..=rounds {
            if round > enough && start.elapsed() > LONG_ENOUGH {
                break;
            }
            for (index, path) in self.paths.iter().enumerate() {
                let (load, frames) = load(*path, round)?;
                let noise = Noise::start();
                let outcome = self.run(*path, &load, frames, End::Sink)?;
                if round > 0 {
                    samples[index].push(outcome.ns);
                    losses[index] = losses[index].max(outcome.loss);
                    foreign = foreign.max(noise.cores());
                }
            }
        }
        for ((path, samples), loss) in self.paths.iter().zip(&samples).zip(&losses) {
            let mut note = format!("{:.2} Mpps, loss {:.2} %", 1e3 / samples.median(), loss * 100.0);
            if *loss > LOSS {
                note.push_str(" (too much)");
            }
            report.add(Figure::new(group, path.name(), "ns", samples).foreign(foreign).note(note));
        }
        for rival in rivals {
            let ratio = samples[rival.number].pairwise(&samples[rival.ours], |rival, ours| rival / ours);
            let name = format!("{} against {}", self.paths[rival.ours].name(), self.paths[rival.number].name());
            let target = rival.target.filter(|_| losses[rival.ours] <= LOSS).map(Target::AtLeast);
            report.add(Figure::new(group, name, "x", &ratio).foreign(foreign).target(target));
        }
        Ok(())
    }

    fn run(&self, path: &dyn Path, load: &Load, frames: u32, end: End) -> Result<Outcome> {
        let programs = self.programs;
        let _at_the_end = attach(path, programs, end)?;
        let Load { frame, flows } = load;
        programs.set_frames(frame, flows)?;
        let before = programs.counted()?;
        let generate = programs.fd("generate")?;
        let taken = path.client().enter(|| {
            // Device maps and the frames' own device are looked for in this thread's namespace.
            programs.set_device(if_nametoindex("eth0")?)?;
            machine::pin_to_last_cpu()?;
            machine::hurry()?;
            let data = flows::bytes(frame);
            let run = TestRun { data: &data, repeat: frames, frames: Frames::Live { batch: 0 }, ..TestRun::default() };
            // The kernel's own clock of the loop: what is around it (pages of the frames, made and given back) takes tens of
            // milliseconds, whatever the number of frames.
            Ok::<_, anyhow::Error>(test_run(generate, &run)?.duration * frames)
        })??;
        let got = settled(programs)? - before;
        ensure!(got > 0, "{}: no frame arrived", path.name());
        Ok(Outcome { ns: taken.as_nanos() as f64 / got as f64, loss: 1.0 - got as f64 / f64::from(frames) })
    }
}

fn attach(path: &dyn Path, programs: &Programs, end: End) -> Result<Link> {
    let program = programs.fd(end.program())?;
    path.server()
        .enter(|| Ok::<_, anyhow::Error>(Link::attach(program, if_nametoindex("eth0")?, Hook::TcxIngress)?))?
        .with_context(|| format!("attach the end of {}", path.name()))
}

/// What the far end has counted once nothing more arrives.
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
