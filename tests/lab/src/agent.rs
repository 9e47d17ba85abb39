//! A real `vpc-agent` on a node, and `vpcctl` beside it.

use crate::{background::Background, command, node::Node};
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use std::{
    env,
    io::ErrorKind,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

/// How long an agent may take to converge.
pub const READY_LIMIT: Duration = Duration::from_secs(20);

/// A running agent. Dropping it kills it; what it pinned stays with the node. Where a test has failed, its log is shown
/// then.
pub struct Agent {
    process: Background,
    notifications: Notifications,
}

/// The service manager's side of the notification protocol: reads all that the agent says, since the agent waits when
/// nobody does.
struct Notifications {
    socket: UnixDatagram,
    ready: Receiver<()>,
}

impl Notifications {
    fn listen(path: &Path) -> Result<Self> {
        if let Err(error) = std::fs::remove_file(path)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error).context("an old notification socket cannot be removed");
        }
        let socket = UnixDatagram::bind(path).with_context(|| format!("cannot bind {}", path.display()))?;
        let (sender, ready) = channel();
        let reader = socket.try_clone()?;
        std::thread::spawn(move || {
            let mut message = [0; 1024];
            // Nothing: the socket was shut down.
            while let Ok(length @ 1..) = reader.recv(&mut message) {
                if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                    let _nobody_waits = sender.send(());
                }
            }
        });
        Ok(Self { socket, ready })
    }
}

impl Drop for Notifications {
    fn drop(&mut self) {
        let _already_closed = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

impl Agent {
    /// Starts the agent of a node. It is not ready yet: see [`Agent::wait_ready`].
    ///
    /// # Errors
    /// The program is not built, or cannot be started.
    pub fn start(node: &Node, topology: &Path) -> Result<Self> {
        Self::start_with(node, topology, &[])
    }

    /// The same with more arguments.
    ///
    /// # Errors
    /// As for [`Agent::start`].
    pub fn start_with(node: &Node, topology: &Path, arguments: &[&str]) -> Result<Self> {
        let socket = node.directory().join(format!("{}.notify", node.name()));
        let notifications = Notifications::listen(&socket)?;
        let mut command = Self::command(node, topology)?;
        command.args(arguments).env("NOTIFY_SOCKET", &socket);
        let log = node.directory().join(format!("{}.agent.log", node.name()));
        Ok(Self { process: Background::start_releasable(command, log)?, notifications })
    }

    /// The command that runs the agent of a node in the foreground.
    ///
    /// # Errors
    /// The program is not built.
    pub fn command(node: &Node, topology: &Path) -> Result<Command> {
        let mut command = node.command(program("vpc-agent")?);
        command.args(["run", "--node", node.name(), "--log-format", "json", "--topology"]).arg(topology);
        Ok(command)
    }

    /// Waits until the agent says that it has converged. Returns how long that took from now.
    ///
    /// # Errors
    /// It ended or said nothing in time; the error quotes its log.
    pub fn wait_ready(&mut self) -> Result<Duration> {
        let start = Instant::now();
        while start.elapsed() < READY_LIMIT {
            if self.notifications.ready.recv_timeout(Duration::from_millis(20)).is_ok() {
                return Ok(start.elapsed());
            }
            if !self.process.is_running()? {
                bail!("the agent ended before it was ready:\n{}", self.log_tail());
            }
        }
        bail!("the agent was not ready within {READY_LIMIT:?}:\n{}", self.log_tail())
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// All that this agent, and those before it on the node, logged.
    pub fn log(&self) -> String {
        self.process.output()
    }

    fn log_tail(&self) -> String {
        let log = self.process.output();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Stops it as a service manager does, and waits for its end.
    ///
    /// # Errors
    /// It does not end within 10 s.
    pub fn stop(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait(Duration::from_secs(10)).map(drop)
    }

    /// Lets it run on when the value is dropped.
    pub fn release(&mut self) {
        self.process.release();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the agent with pid {} logged:\n{}", self.pid(), self.log_tail());
        }
    }
}

/// Runs `vpcctl` on a node, whatever its exit code.
///
/// # Errors
/// The program is not built or cannot be started.
pub fn vpcctl_output(node: &Node, arguments: &str) -> Result<Output> {
    command::any_output(node.command(program("vpcctl")?).args(arguments.split_whitespace()))
}

/// Runs `vpcctl` on a node and returns what it prints.
///
/// # Errors
/// It fails.
pub fn vpcctl(node: &Node, arguments: &str) -> Result<String> {
    command::output(node.command(program("vpcctl")?).args(arguments.split_whitespace()))
}

/// Runs `vpcctl … -o json` on a node.
///
/// # Errors
/// It fails, or prints no JSON.
pub fn vpcctl_json(node: &Node, arguments: &str) -> Result<serde_json::Value> {
    let text = vpcctl(node, &format!("{arguments} -o json"))?;
    serde_json::from_str(&text).with_context(|| format!("vpcctl {arguments} -o json printed no JSON:\n{text}"))
}

/// A program of this repository: it lies beside the running one, or above it where that is a test.
///
/// # Errors
/// It is not built.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("the path of this program is unknown")?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not built: run `cargo xtask build`"))
}
