//! Processes that run beside the test.

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// A process with its output in a file. Dropping it kills it.
pub struct Background {
    child: Child,
    log: PathBuf,
    fate: Fate,
}

/// Whether a process lives on.
#[derive(PartialEq, Eq)]
enum Fate {
    /// Killed when the value is dropped, and by the kernel when the thread that started it ends.
    Tied,
    /// Left alone.
    Released,
}

impl Background {
    /// Starts a command; all that it prints goes to `log`. The kernel kills it when this thread ends.
    ///
    /// # Errors
    /// The log cannot be made or the program not be started.
    pub fn start(command: &Command, log: PathBuf) -> Result<Self> {
        let mut tied = Command::new("setpriv");
        tied.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            if let Some(value) = value {
                tied.env(key, value);
            }
        }
        Self::spawn(tied, log, Fate::Tied)
    }

    /// The same, but it outlives this process if [`Background::release`] is called.
    ///
    /// # Errors
    /// As for [`Background::start`].
    pub fn start_releasable(command: Command, log: PathBuf) -> Result<Self> {
        Self::spawn(command, log, Fate::Tied)
    }

    fn spawn(mut command: Command, log: PathBuf, fate: Fate) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("cannot start {}", crate::command::describe(&command)))?;
        Ok(Self { child, log, fate })
    }

    /// Its pid. The helpers that enter namespaces are replaced by the program itself, so this is the program's.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// The kernel does not know the process.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), signal).with_context(|| format!("cannot send {signal}"))
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// It does not within the time.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                bail!("process {} still runs after {limit:?}; it printed:\n{}", self.pid(), self.output());
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Interrupts it, waits for its end, and returns all it printed.
    ///
    /// # Errors
    /// It does not end.
    pub fn interrupt(&mut self) -> Result<String> {
        if self.is_running()? {
            self.signal(Signal::SIGINT)?;
        }
        self.wait(Duration::from_secs(5))?;
        Ok(self.output())
    }

    /// Kills it at once, as `kill -9` does.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Lets it run on when the value is dropped.
    pub fn release(&mut self) {
        self.fate = Fate::Released;
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if self.fate == Fate::Tied && self.child.kill().is_ok() {
            let _status = self.child.wait();
        }
    }
}
