//! Real sockets: the client on the first CPU, the server on the last.

use super::{Path, cache_line, steering::with_own_cpus};
use crate::{
    Effort,
    load::{Bulk, Connections, Datagrams, Latencies, Wait},
    machine,
    noise::Noise,
    report::{Figure, Report, Target},
    samples::Samples,
};
use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use std::{env, fs, path::PathBuf, process::Command, time::Duration};
use vpc_lab::{Background, Netns, command::output, wait::eventually};

const PORT: u16 = 5_002;
/// How long a server may take to listen.
const START: Duration = Duration::from_secs(5);

/// Which way a figure is good.
#[derive(Clone, Copy)]
enum Better {
    /// Rates.
    More,
    /// Rates, by so much.
    Times(f64),
    /// Latencies.
    Less,
    /// Shown only: the tail is the scheduler's.
    Unbound,
}

impl Better {
    /// What the ratio to a rival should be.
    const fn target(self) -> Option<Target> {
        match self {
            Self::More => Some(Target::AtLeast(1.0)),
            Self::Times(bound) => Some(Target::AtLeast(bound)),
            Self::Less => Some(Target::AtMost(1.0)),
            Self::Unbound => None,
        }
    }
}

/// Which two paths are compared, by their number, and whether ours must not be worse.
#[derive(Clone, Copy, Debug)]
pub struct Contest {
    ours: usize,
    rival: usize,
    goal: Goal,
}

impl Contest {
    /// Like is compared with like.
    pub const fn reach(ours: usize, rival: usize) -> Self {
        Self { ours, rival, goal: Goal::Reach }
    }
    /// To know.
    pub const fn show(ours: usize, rival: usize) -> Self {
        Self { ours, rival, goal: Goal::Show }
    }
}

/// How many samples a figure without a target has, and any in a first look.
const SHOWN: u32 = 3;
/// How many another one has.
const USUAL: u32 = 5;
/// How long bulk TCP is received in a sample.
const BULK_MILLISECONDS: u64 = 400;

/// What a comparison is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Goal {
    /// Like is compared with like.
    Reach,
    /// To know.
    Show,
}

/// Who is measured, in turn.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    /// All of them.
    pub paths: &'a [&'a dyn Path],
    /// Who is compared with whom.
    pub contests: &'a [Contest],
    /// Under which conditions.
    pub what: &'a str,
}

/// Bulk TCP, each machine on its own CPU.
///
/// # Errors
/// A tool fails.
pub fn tcp(field: Field<'_>, effort: Effort, report: &mut Report) -> Result<()> {
    with_own_cpus(field.paths, || bulk_tcp(field, effort, report))
}

fn bulk_tcp(field: Field<'_>, effort: Effort, report: &mut Report) -> Result<()> {
    for (streams, wait) in [(1, Wait::Busy), (4, Wait::Busy), (1, Wait::Blocking), (4, Wait::Blocking)] {
        let group = format!("TCP, {streams} streams, {}", wait.word());
        let run = |path: &dyn Path| Ok(vec![bulk(path, streams, wait)?]);
        // Asleep, how often somebody must be woken decides, and that costs more than the path.
        let better = if wait == Wait::Busy { Better::More } else { Better::Unbound };
        compare(field, &group, &[("", "Gbit/s", better)], effort, USUAL, report, run)?;
    }
    Ok(())
}

/// Small datagrams through one socket.
///
/// # Errors
/// A tool fails.
pub fn udp(field: Field<'_>, effort: Effort, report: &mut Report) -> Result<()> {
    let milliseconds = milliseconds(effort);
    compare(field, "UDP, 64-byte frames, received", &[("", "kpps", Better::More)], effort, USUAL, report, |path| {
        let mut sink = start(path.server(), &["sink", &PORT.to_string()])?;
        let blast = ["blast", &format!("{}:{PORT}", path.server_address()), &milliseconds.to_string()];
        result::<Datagrams>(&output(&mut client(path.client(), &blast)?)?)?;
        sink.process.wait(Duration::from_secs(20))?;
        Ok(vec![result::<Datagrams>(&sink.process.output())?.rate / 1e3])
    })
}

/// One question at a time.
///
/// # Errors
/// A tool fails.
pub fn request_response(field: Field<'_>, effort: Effort, report: &mut Report) -> Result<()> {
    let milliseconds = milliseconds(effort);
    for wait in [Wait::Busy, Wait::Blocking] {
        let word = wait.word();
        let group = format!("TCP request and response, 64 bytes, {word}");
        let what = [("p50", "us", Better::Less), ("p99", "us", Better::Unbound), ("p99.9", "us", Better::Unbound)];
        compare(field, &group, &what, effort, USUAL, report, |path| {
            let got = ask(path, milliseconds, wait)?;
            Ok(vec![got.p50, got.p99, got.p999])
        })?;
    }
    Ok(())
}

/// One question after the other for some time.
///
/// # Errors
/// A tool fails.
pub fn ask(path: &dyn Path, milliseconds: u64, wait: Wait) -> Result<Latencies> {
    let mut server = start(path.server(), &["serve", &PORT.to_string(), wait.word()])?;
    let ask = ["ask", &format!("{}:{PORT}", path.server_address()), &milliseconds.to_string(), wait.word()];
    let got = result(&output(&mut client(path.client(), &ask)?)?)?;
    server.process.wait(Duration::from_secs(5))?;
    Ok(got)
}

/// One connection after the other, with one request on each.
///
/// # Errors
/// A tool fails.
pub fn connections(field: Field<'_>, target: f64, effort: Effort, report: &mut Report) -> Result<()> {
    let milliseconds = milliseconds(effort).to_string();
    for (wait, rate) in [(Wait::Busy, Better::Times(target)), (Wait::Blocking, Better::Unbound)] {
        let word = wait.word();
        let group = format!("TCP connections one after the other, each with a request and its answer, {word}");
        let what = [("", "1/s", rate), ("p50", "us", Better::Unbound), ("p99", "us", Better::Unbound)];
        compare(field, &group, &what, effort, USUAL, report, |path| {
            let mut server = start(path.server(), &["answer", &PORT.to_string(), word])?;
            let connect = ["connect", &format!("{}:{PORT}", path.server_address()), &milliseconds, word];
            let got: Connections = result(&output(&mut client(path.client(), &connect)?)?)?;
            server.process.wait(Duration::from_secs(5))?;
            Ok(vec![got.rate, got.p50, got.p99])
        })?;
    }
    Ok(())
}

/// Runs a measurement on every path in turn, and reports each of its figures and the ratios of the contests.
fn compare(
    Field { paths, contests, what }: Field<'_>,
    load: &str,
    figures: &[(&str, &str, Better)],
    effort: Effort,
    rounds: u32,
    report: &mut Report,
    run: impl Fn(&dyn Path) -> Result<Vec<f64>>,
) -> Result<()> {
    let group = &format!("{load}, {what}");
    let is_shown_only = figures.iter().all(|(_, _, better)| better.target().is_none());
    let rounds = if effort == Effort::Quick || is_shown_only { SHOWN } else { rounds };
    let mut samples = vec![vec![Samples::default(); figures.len()]; paths.len()];
    let (mut foreign, mut distances) = (0.0_f64, Samples::default());
    for _ in 0..rounds {
        distances.push(cache_line::round_trip());
        for (path, samples) in paths.iter().zip(&mut samples) {
            let noise = Noise::start();
            let values = run(*path).with_context(|| format!("{group}: {}", path.name()))?;
            foreign = foreign.max(noise.cores());
            samples.iter_mut().zip(values).for_each(|(samples, value)| samples.push(value));
        }
    }
    let note = format!("cache line {:.0} .. {:.0} ns", distances.min(), distances.max());
    for (index, (name, unit, better)) in figures.iter().enumerate() {
        let named = |text: &str| if name.is_empty() { text.to_owned() } else { format!("{name}: {text}") };
        for (path, samples) in paths.iter().zip(&samples) {
            report.add(Figure::new(group, named(path.name()), unit, &samples[index]).foreign(foreign).note(&note));
        }
        for contest in contests {
            let ratio =
                samples[contest.ours][index].pairwise(&samples[contest.rival][index], |ours, rival| ours / rival);
            let name = format!("{} / {}", paths[contest.ours].name(), paths[contest.rival].name());
            let figure = Figure::new(group, named(&name), "x", &ratio).foreign(foreign);
            report.add(figure.target(better.target().filter(|_| contest.goal == Goal::Reach)));
        }
    }
    Ok(())
}

fn milliseconds(effort: Effort) -> u64 {
    if effort == Effort::Quick { 500 } else { 700 }
}

/// Gbit/s received.
fn bulk(path: &dyn Path, streams: u32, wait: Wait) -> Result<f64> {
    let (port, streams, milliseconds) = (PORT.to_string(), streams.to_string(), BULK_MILLISECONDS.to_string());
    let mut drain = start(path.server(), &["drain", &port, &streams, wait.word()])?;
    let to = format!("{}:{PORT}", path.server_address());
    output(&mut client(path.client(), &["pour", &to, &milliseconds, &streams, wait.word()])?)?;
    drain.process.wait(Duration::from_secs(10))?;
    Ok(result::<Bulk>(&drain.process.output())?.gigabits)
}

/// Starts one of this program's own tools as a server and waits until it is ready.
fn start(netns: &Netns, arguments: &[&str]) -> Result<Server> {
    let mut command = on_cpu(netns, machine::last_cpu(), env::current_exe()?);
    command.arg("load").args(arguments);
    Server::start(&command, "ready")
}

fn client(netns: &Netns, arguments: &[&str]) -> Result<Command> {
    let mut command = on_cpu(netns, 0, env::current_exe()?);
    command.arg("load").args(arguments);
    Ok(command)
}

fn on_cpu(netns: &Netns, cpu: usize, program: PathBuf) -> Command {
    let mut command = netns.command("taskset");
    command.args(["-c", &cpu.to_string()]).arg(program);
    command
}

/// A server, and the file with what it prints.
struct Server {
    process: Background,
    log: PathBuf,
}

impl Server {
    /// Starts it and waits until it has printed a word.
    fn start(command: &Command, ready: &str) -> Result<Self> {
        let log = env::temp_dir().join(format!("vpc-bench-{}.log", std::process::id()));
        fs::write(&log, "").with_context(|| format!("write {}", log.display()))?;
        let server = Self { process: Background::start(command, log.clone())?, log };
        eventually(START, || match server.process.output() {
            text if text.contains(ready) => Ok(()),
            text => bail!("the server is not ready; it printed {text:?}"),
        })?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.log);
    }
}

/// The last line that a tool printed.
fn result<T: DeserializeOwned>(text: &str) -> Result<T> {
    let line = text.trim().lines().last().context("the tool printed nothing")?;
    serde_json::from_str(line).with_context(|| format!("the tool printed {line}"))
}
