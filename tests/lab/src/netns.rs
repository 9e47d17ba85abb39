//! Network namespaces.

use crate::{
    command::{ip, ip_batch, output},
    instance::Lab,
};
use anyhow::{Context, Result, anyhow, bail};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs::{self, File},
    os::linux::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// Where `ip netns` keeps its namespaces.
pub const NETNS_DIR: &str = "/run/netns";

/// A network namespace, made and removed as `ip netns` does, so that `ip netns` shows it.
pub struct Netns {
    name: String,
    kept: bool,
}

impl Netns {
    /// A new namespace with the loopback device up and IPv6's duplicate address detection off, which would keep
    /// addresses unusable for a second.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn new(lab: &Lab, name: &str) -> Result<Self> {
        let name = lab.netns_name(name);
        ip(&format!("netns add {name}"))?;
        let netns = Self { name, kept: false };
        netns.ip_batch(&["link set lo up".to_owned()])?;
        netns.sysctl(&[
            ("net/ipv6/conf/all/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_ra", "0"),
            ("net/ipv4/ping_group_range", "0 2147483647"),
        ])?;
        Ok(netns)
    }

    /// Its name, as `ip netns list` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        Path::new(NETNS_DIR).join(&self.name)
    }

    /// Leaves the namespace there when the value is dropped.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// Whether [`Netns::keep`] was called.
    pub fn is_kept(&self) -> bool {
        self.kept
    }

    /// A command that will run inside. Not by `ip netns exec`, which mounts a fresh /sys and so hides the BPF file
    /// system.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Runs a command line inside, split at spaces, and returns what it prints.
    ///
    /// # Errors
    /// It cannot be started, or fails.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("an empty command line")?;
        output(self.command(program).args(words))
    }

    /// Runs `ip` commands inside, one per line.
    ///
    /// # Errors
    /// One of them fails.
    pub fn ip_batch(&self, lines: &[String]) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["-netns", &self.name]);
        ip_batch(command, lines)
    }

    /// Runs one `ip` command inside.
    ///
    /// # Errors
    /// It fails.
    pub fn ip(&self, words: &str) -> Result<()> {
        ip(&format!("-netns {} {words}", self.name))
    }

    /// The MAC of a device, as `ip` writes it.
    ///
    /// # Errors
    /// There is no such device, or it has none.
    pub fn mac(&self, device: &str) -> Result<String> {
        let line = self.run(&format!("ip -o link show dev {device}"))?;
        let mut words = line.split_whitespace().skip_while(|word| *word != "link/ether").skip(1);
        Ok(words.next().with_context(|| format!("{device} has no MAC: {line}"))?.to_owned())
    }

    /// Sets which CPUs all its interfaces receive on (`rps_cpus`), as bits; none: wherever frames come in.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn receive_on(&self, cpus: u64) -> Result<()> {
        let files = "/sys/class/net/*/queues/rx-*/rps_cpus";
        let script = format!("for file in {files}; do echo {cpus:x} > $file || exit 1; done");
        // It mounts the /sys of the namespace.
        output(Command::new("ip").args(["netns", "exec", self.name(), "sh", "-c", &script])).map(drop)
    }

    /// Sets sysctls inside: path below /proc/sys, and value.
    ///
    /// # Errors
    /// One of them does not exist or refuses the value.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.enter(|| {
            settings.iter().try_for_each(|(key, value)| {
                fs::write(Path::new("/proc/sys").join(key), value)
                    .with_context(|| format!("cannot set {key} to {value}"))
            })
        })?
    }

    /// Runs a closure in a thread that is inside. What it opens (sockets) stays inside.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let file = File::open(self.path()).with_context(|| format!("cannot open namespace {}", self.name))?;
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&file, CloneFlags::CLONE_NEWNET)
                        .with_context(|| format!("cannot enter namespace {}", self.name))?;
                    Ok(work())
                })
                .join()
                .map_err(|panic| match panic.downcast_ref::<String>() {
                    Some(text) => anyhow!("in namespace {}: {text}", self.name),
                    None => anyhow!("a thread in namespace {} panicked", self.name),
                })?
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = delete_netns(&self.name)
        {
            eprintln!("{error:#}");
        }
    }
}

/// Removes a namespace if it is there, after killing what runs in it.
///
/// # Errors
/// `ip` fails although it is there.
pub(crate) fn delete_netns(name: &str) -> Result<()> {
    if !Path::new(NETNS_DIR).join(name).exists() {
        return Ok(());
    }
    kill_inside(name)?;
    ip(&format!("netns delete {name}"))
}

/// Kills every process in a namespace and waits until they are gone.
fn kill_inside(name: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        let pids = processes_in(name);
        if pids.is_empty() {
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(5) {
            bail!("processes {pids:?} do not end");
        }
        for pid in pids {
            let _already_gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Pids of the processes in a namespace.
fn processes_in(name: &str) -> Vec<i32> {
    let Ok(wanted) = fs::metadata(Path::new(NETNS_DIR).join(name)) else { return Vec::new() };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|meta| meta.st_ino() == wanted.st_ino() && meta.st_dev() == wanted.st_dev())
        })
        .collect()
}
