//! A machine that boots, runs what its root file system says, and switches itself off.

use crate::{FAILED, MARK, PASSED};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use vpc_lab::Background;

/// A machine without hardware acceleration, network or disks.
pub struct Machine<'a> {
    /// The kernel.
    pub kernel: &'a Path,
    /// The root file system, as [`crate::image::Image::archive`] makes it.
    pub initramfs: &'a Path,
    /// Where its console goes.
    pub console: PathBuf,
}

/// How a run ended.
pub struct Run {
    /// Lines of the scenarios, without [`MARK`].
    pub lines: Vec<String>,
    /// How long the machine was on.
    pub took: Duration,
}

impl Machine<'_> {
    /// Switches it on and waits until it is off.
    ///
    /// # Errors
    /// QEMU does not start, the machine does not switch itself off within the time, or what it ran did not pass; the
    /// error quotes the console's end.
    pub fn run(&self, limit: Duration) -> Result<Run> {
        if let Err(error) = fs::remove_file(&self.console)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error).with_context(|| format!("cannot remove {}", self.console.display()));
        }
        let start = Instant::now();
        let mut process = Background::start(&self.command(), self.console.clone())?;
        let ended = process.wait(limit);
        let console = process.output();
        let lines: Vec<String> =
            console.lines().filter_map(|line| line.trim().strip_prefix(MARK)).map(str::to_owned).collect();
        if ended.is_err() || !lines.iter().any(|line| line == PASSED) || lines.iter().any(|line| line == FAILED) {
            let end: Vec<&str> = console.lines().collect();
            let end = end[end.len().saturating_sub(60)..].join("\n");
            let why = if ended.is_err() { format!("is still on after {limit:?}") } else { "failed".to_owned() };
            bail!("the machine {why}; {} ends with:\n{end}", self.console.display());
        }
        Ok(Run { lines, took: start.elapsed() })
    }

    fn command(&self) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-M", "q35", "-accel", "tcg,thread=multi", "-smp", "2", "-m", "1536"]);
        // Without this bit kernels of some versions crash under emulation.
        command.args(["-cpu", "qemu64,-cx16"]);
        command.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-nic", "none", "-no-reboot"]);
        command.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initramfs);
        // A panic ends the run at once.
        command.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"]);
        command
    }
}
