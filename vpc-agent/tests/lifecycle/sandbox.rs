//! A machine for one test: its own network and mount namespaces, with agents that run in them.

use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use vpc_agent::control::{
    Request,
    client::{ClientError, ask},
    report::Status,
};

/// The topology of every test: this node and another one, a port here and one there.
pub const TOPOLOGY: &str = r#"version: 1
nodes:
  - {name: hv1, id: 1, vtep: 192.0.2.11, uplink: vag-up}
  - {name: hv2, id: 2, vtep: 198.51.100.12, uplink: eth1}
vpcs:
  - {name: prod, vni: 5001, cidr_blocks: [10.0.0.0/16]}
subnets:
  - {name: web, vpc: prod, cidr_blocks: [10.0.1.0/24]}
ports:
  - {name: web-1, subnet: web, node: hv1, device: vag-p1, mac: "02:00:00:00:01:10", private_ips: [10.0.1.10]}
  - {name: web-2, subnet: web, node: hv2, device: x, mac: "02:00:00:00:01:11", private_ips: [10.0.1.11]}
"#;

/// The namespaces of the calling thread. The agents that it starts end with it.
pub struct Sandbox {
    directory: PathBuf,
    agents: Vec<Child>,
}

impl Sandbox {
    /// A machine with an uplink, a router behind it that leads to the other node, and a port's veth.
    pub fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("vag-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).expect("make a directory");
        // The thread alone moves: tests run beside each other.
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("needs root");
        run("mount --make-rprivate /");
        run("mount -t sysfs sysfs /sys");
        run("mount -t tmpfs run /run");
        let sandbox = Self { directory, agents: Vec::new() };
        for line in [
            "ip link set lo up",
            "ip netns add vag-router",
            "ip link add vag-up type veth peer name r0 netns vag-router",
            "ip address add 192.0.2.11/24 dev vag-up",
            "ip link set vag-up up mtu 1600",
            "ip -n vag-router address add 192.0.2.1/24 dev r0",
            "ip -n vag-router link set r0 up mtu 1600",
            "ip route add 198.51.100.0/24 via 192.0.2.1",
            "ip netns add vag-guest",
        ] {
            run(line);
        }
        sandbox.plug("vag-p1");
        fs::write(sandbox.topology(), TOPOLOGY).expect("write the topology");
        sandbox
    }

    /// Adds a veth whose other end is in the guests' namespace.
    pub fn plug(&self, device: &str) {
        run(&format!("ip link add {device} type veth peer name g-{device} netns vag-guest"));
        run(&format!("ip link set {device} up"));
        run(&format!("ip -n vag-guest link set g-{device} up mtu 1500"));
    }

    /// The topology file.
    pub fn topology(&self) -> PathBuf {
        self.directory.join("topology.yaml")
    }

    /// The control socket's directory.
    pub fn run_dir(&self) -> &'static Path {
        Path::new("/run/vpc-agent")
    }

    /// Where the agent pins.
    pub fn bpffs(&self) -> &'static Path {
        Path::new("/run/bpf")
    }

    /// An agent's command with small maps.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vpc-agent"));
        command.args(["run", "--node", "hv1", "--bpffs", "/run/bpf", "--topology"]).arg(self.topology());
        command.args(["--sessions", "1024", "--endpoints", "1024", "--routes", "64", "--ports", "16"]);
        command
    }

    /// Starts an agent and waits until it answers.
    pub fn start(&mut self) -> Status {
        self.start_with(&[])
    }

    /// The same with more arguments.
    pub fn start_with(&mut self, arguments: &[&str]) -> Status {
        let log = File::options().create(true).append(true).open(self.directory.join("log")).expect("open the log");
        let mut command = self.command();
        command.args(arguments).env("VPC_LOG", "vpc_agent=debug").stdin(Stdio::null()).stderr(log);
        self.agents.push(command.spawn().expect("start the agent"));
        self.eventually("the agent answers", |_| true)
    }

    /// Sends the running agent a signal and waits for its end.
    pub fn end(&mut self, signal: Signal) {
        let mut agent = self.agents.pop().expect("a running agent");
        kill(Pid::from_raw(agent.id() as i32), signal).expect("signal the agent");
        agent.wait().expect("wait for the agent");
    }

    /// Waits for the end of an agent that was told to end otherwise.
    pub fn ended(&mut self) {
        self.agents.pop().expect("an agent").wait().expect("wait for the agent");
    }

    /// What was logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Asks until the status is as it should be.
    pub fn eventually(&self, what: &str, mut good: impl FnMut(&Status) -> bool) -> Status {
        let start = Instant::now();
        loop {
            match self.status() {
                Ok(status) if good(&status) => return status,
                last if start.elapsed() > Duration::from_secs(5) => {
                    panic!("not so within 5 s: {what}\n{last:#?}\n{}", self.log())
                }
                _ => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// The agent's status.
    pub fn status(&self) -> Result<Status, ClientError> {
        ask(self.run_dir(), Request::Status)
    }

    /// Whether nothing was written to the maps since the log was that long.
    pub fn applied_since(&self, length: usize) -> bool {
        self.log()[length..].contains("applied")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for agent in &mut self.agents {
            // It may have ended.
            let _ended = agent.kill();
            let _ended = agent.wait();
        }
        if !thread::panicking() {
            let _gone = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Runs a command line, split at spaces.
pub fn run(line: &str) {
    let mut words = line.split(' ');
    let status = Command::new(words.next().expect("a command")).args(words).status().expect("run");
    assert!(status.success(), "{line}");
}
