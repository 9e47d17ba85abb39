//! Two hypervisors with real agents, from their start to `uninstall`.
//!
//! ```text
//!   hv1: a1, a3 (subnet a)      router      hv2: a2 (subnet a), b1 (subnet b)
//! ```

use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};
use vpc_lab::{
    Agent, Fabric, Lab, UnderlayOptions,
    agent::{vpcctl, vpcctl_json},
    ping::{BackgroundPing, Fragmentation, PingOptions},
    wait::eventually,
};

const TOPOLOGY: &str = "\
version: 1
nodes:
  - {name: hv1, id: 1, vtep: 192.0.2.11, uplink: eth1, receive_mode: xdp}
  - {name: hv2, id: 2, vtep: 192.0.2.12, uplink: eth1, receive_mode: xdp}
vpcs:
  - {name: red, vni: 5001, cidr_blocks: [10.0.0.0/16, 'fd00:1::/56']}
subnets:
  - {name: a, vpc: red, cidr_blocks: [10.0.1.0/24, 'fd00:1:0:1::/64']}
  - {name: b, vpc: red, cidr_blocks: [10.0.2.0/24, 'fd00:1:0:2::/64'], vni: 6002}
ports:
  - {name: a1, subnet: a, node: hv1, device: tap-a1, mac: '02:00:00:00:01:10', private_ips: [10.0.1.10, 'fd00:1:0:1::10']}
  - {name: a2, subnet: a, node: hv2, device: tap-a2, mac: '02:00:00:00:01:11', private_ips: [10.0.1.11, 'fd00:1:0:1::11']}
  - {name: a3, subnet: a, node: hv1, device: tap-a3, mac: '02:00:00:00:01:12', private_ips: [10.0.1.12, 'fd00:1:0:1::12']}
  - {name: b1, subnet: b, node: hv2, device: tap-b1, mac: '02:00:00:00:02:10', private_ips: [10.0.2.10, 'fd00:1:0:2::10']}
";
const NODES: [&str; 2] = ["hv1", "hv2"];
/// The machine is small and slow: a million sessions take it long to make.
const SIZES: [&str; 8] = ["--sessions", "4096", "--endpoints", "4096", "--routes", "1024", "--ports", "64"];
const OTHER_SIZES: [&str; 8] = ["--sessions", "8192", "--endpoints", "4096", "--routes", "1024", "--ports", "64"];
/// How long a change may take to show, on a machine that is emulated.
const SOON: Duration = Duration::from_secs(10);
/// Bytes of a TCP transfer.
const TRANSFER: usize = 4 << 20;

/// How agents are told to get their programs to TC ingress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// As the kernel allows.
    Auto,
    /// By filters.
    Clsact,
}

impl Attach {
    /// From this program's arguments: none, or `clsact`.
    ///
    /// # Errors
    /// There are others.
    pub fn from_arguments() -> Result<Self> {
        match std::env::args().nth(1).as_deref() {
            None => Ok(Self::Auto),
            Some("clsact") => Ok(Self::Clsact),
            Some(other) => bail!("what is {other}? Nothing or `clsact` is expected"),
        }
    }

    fn arguments(self) -> [&'static str; 2] {
        match self {
            Self::Auto => ["--attach", "auto"],
            Self::Clsact => ["--attach", "clsact"],
        }
    }

    /// What the agents should report, told by the kernel's version alone.
    fn expected_mode(self) -> Result<&'static str> {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Ok(if self == Self::Clsact || version < (6, 6) { "clsact" } else { "tcx" })
    }
}

type Step = fn(&mut World) -> Result<String>;

/// Told after each step: what was done, and what was seen.
pub type Report<'a> = dyn FnMut(&str, &str) + 'a;

/// Runs all of it.
///
/// # Errors
/// The first thing that is not as it should be, with the agents' logs.
pub fn run(attach: Attach, report: &mut Report<'_>) -> Result<()> {
    let mut world = World::build(attach)?;
    let steps: [(&str, Step); 9] = [
        ("agents converge", World::start),
        ("programs are attached", World::attached),
        ("ping in a subnet, routed, on one node; IPv4 and IPv6", World::pings),
        ("fragments", World::fragments),
        ("TCP", World::transfers),
        ("kill -9 and restart under traffic", World::killed),
        ("other programs take over under traffic", World::replaced),
        ("a filter or link that is there is found again", World::attached),
        ("uninstall leaves nothing", World::uninstalled),
    ];
    for (name, step) in steps {
        match step(&mut world) {
            Ok(figure) => report(name, &figure),
            Err(error) => return Err(error.context(format!("{name} failed{}", world.evidence()))),
        }
    }
    Ok(())
}

struct World {
    // Agents end before the nodes that they run on.
    agents: Vec<Agent>,
    fabric: Fabric,
    attach: Attach,
}

impl World {
    fn build(attach: Attach) -> Result<Self> {
        let fabric = Fabric::build(Lab::new()?, TOPOLOGY, UnderlayOptions::default())?;
        Ok(Self { agents: Vec::new(), fabric, attach })
    }

    fn start_agent(&self, node: &str, sizes: &[&str]) -> Result<Agent> {
        let arguments = [&self.attach.arguments(), sizes].concat();
        let mut agent = Agent::start_with(self.fabric.node(node)?, self.fabric.topology(), &arguments)?;
        agent.wait_ready().with_context(|| format!("node {node}"))?;
        Ok(agent)
    }

    fn start(&mut self) -> Result<String> {
        let start = Instant::now();
        for node in NODES {
            let agent = self.start_agent(node, &SIZES)?;
            self.agents.push(agent);
        }
        for node in NODES {
            eventually(SOON, || self.status(node).map(drop))?;
        }
        Ok(format!("{} ms", start.elapsed().as_millis()))
    }

    /// The status of a node, which has no problems.
    fn status(&self, node: &str) -> Result<serde_json::Value> {
        let status = vpcctl_json(self.fabric.node(node)?, "status")?;
        let problems = status["problems"].as_array().context("no problems in the status")?;
        ensure!(problems.is_empty(), "{node}: {problems:?}");
        Ok(status)
    }

    fn attached(&mut self) -> Result<String> {
        let expected = self.attach.expected_mode()?;
        let mut why = String::new();
        for node in NODES {
            let status = self.status(node)?;
            let rows = status["attachments"].as_array().context("no attachments in the status")?;
            // The uplink, the tunnel device, the offload device and two ports.
            ensure!(rows.len() == 5, "{rows:#?}");
            for row in rows {
                let wanted = if row["role"] == "uplink" { "xdp" } else { expected };
                ensure!(row["mode"] == wanted, "{node}: {row:#}, not {wanted}");
                if row["role"] == "port" {
                    why = format!("{}: {}", row["mode"], row["reason"]).replace('"', "");
                }
            }
        }
        Ok(why)
    }

    fn ping(&self, from: &str, to: &str, options: PingOptions) -> Result<u32> {
        let (from, to) = (self.fabric.guest(from)?, self.fabric.guest(to)?);
        let mut received = 0;
        for address in &to.plan().private_ips {
            let pings = from.ping(*address, options)?;
            ensure!(pings.sent > 0 && pings.lost() == 0, "{} → {address}: {pings:?}", from.plan().name);
            received += pings.received;
        }
        Ok(received)
    }

    fn pings(&mut self) -> Result<String> {
        let mut received = 0;
        for (from, to) in [("a1", "a2"), ("a1", "b1"), ("b1", "a3"), ("a1", "a3")] {
            // The first one finds its neighbours.
            eventually(SOON, || self.ping(from, to, PingOptions { count: 1, ..PingOptions::default() }))?;
            received += self.ping(from, to, PingOptions { count: 5, ..PingOptions::default() })?;
        }
        Ok(format!("{received} of {received}"))
    }

    /// Larger than any MTU: the sender's kernel cuts them up, the datapath carries every piece.
    fn fragments(&mut self) -> Result<String> {
        let options = PingOptions { payload: 4_000, fragmentation: Fragmentation::Allowed, ..PingOptions::default() };
        let received = self.ping("a1", "a2", options)? + self.ping("a1", "b1", options)?;
        Ok(format!("{received} of {received}"))
    }

    fn transfers(&mut self) -> Result<String> {
        let start = Instant::now();
        for to in ["a2", "b1"] {
            for address in &self.fabric.guest(to)?.plan().private_ips {
                self.transfer("a1", to, *address).with_context(|| format!("a1 → {address}"))?;
            }
        }
        let rate = (4 * TRANSFER) as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e6;
        Ok(format!("4 × {} MiB at {rate:.0} Mbit/s", TRANSFER >> 20))
    }

    /// Sends a pattern from one guest to another, which compares it.
    fn transfer(&self, from: &str, to: &str, address: IpAddr) -> Result<()> {
        let listener = self.fabric.guest(to)?.netns().enter(|| TcpListener::bind(SocketAddr::new(address, 0)))??;
        let target = listener.local_addr()?;
        let pattern: Vec<u8> = (0..TRANSFER).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect();
        let mut received = Vec::new();
        std::thread::scope(|scope| {
            let receiver = scope.spawn(|| -> Result<()> {
                let (mut stream, _) = listener.accept()?;
                stream.set_read_timeout(Some(SOON))?;
                stream.read_to_end(&mut received).context("receive")?;
                Ok(())
            });
            let sent = self.fabric.guest(from)?.netns().enter(|| -> Result<()> {
                let mut stream = TcpStream::connect_timeout(&target, SOON).context("connect")?;
                stream.set_write_timeout(Some(SOON))?;
                stream.write_all(&pattern).context("send")
            })?;
            if sent.is_err() {
                // Nobody came: the receiver is woken up and finds nothing.
                let _woken = self.fabric.guest(to)?.netns().enter(|| TcpStream::connect_timeout(&target, SOON).is_ok());
            }
            receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
            sent
        })?;
        ensure!(received == pattern, "{} of {TRANSFER} bytes came, or others than were sent", received.len());
        Ok(())
    }

    /// Pings across the nodes, routed and not, while something is done.
    fn under_traffic(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<u32> {
        let mut running = Vec::new();
        for to in ["a2", "b1"] {
            let (from, to) = (self.fabric.guest("a1")?, self.fabric.guest(to)?);
            let log = from.logs().join(format!("{}.ping", to.plan().name));
            running.push(BackgroundPing::start(from.netns(), to.ipv4()?, 0.02, log)?);
        }
        sleep(Duration::from_millis(500));
        work(self)?;
        sleep(Duration::from_millis(500));
        let mut sent = 0;
        for pings in running {
            let pings = pings.stop()?;
            ensure!(pings.sent > 20 && pings.lost() == 0, "{pings:?}");
            sent += pings.sent;
        }
        Ok(sent)
    }

    fn restart(&mut self, sizes: &[&str]) -> Result<usize> {
        let mut replaced = 0;
        for (index, node) in NODES.iter().enumerate() {
            let before = self.agents[index].log().matches("replaced the programs").count();
            self.agents[index].kill()?;
            sleep(Duration::from_millis(500));
            self.agents[index] = self.start_agent(node, sizes)?;
            replaced += self.agents[index].log().matches("replaced the programs").count() - before;
            eventually(SOON, || self.status(node).map(drop))?;
        }
        Ok(replaced)
    }

    fn killed(&mut self) -> Result<String> {
        let mut replaced = 0;
        let sent = self.under_traffic(|world| {
            replaced = world.restart(&SIZES)?;
            Ok(())
        })?;
        ensure!(replaced == 0, "the same agent replaced its programs on {replaced} nodes");
        self.pings()?;
        Ok(format!("0 of {sent} lost"))
    }

    fn replaced(&mut self) -> Result<String> {
        let mut replaced = 0;
        let sent = self.under_traffic(|world| {
            replaced = world.restart(&OTHER_SIZES)?;
            Ok(())
        })?;
        ensure!(replaced == NODES.len(), "programs were replaced on {replaced} nodes");
        self.pings()?;
        Ok(format!("0 of {sent} lost"))
    }

    fn uninstalled(&mut self) -> Result<String> {
        for node in NODES {
            let node = self.fabric.node(node)?;
            vpcctl(node, "uninstall")?;
            // Kernels put two files of their own into each BPF file system.
            let pins = node.run("find /sys/fs/bpf -mindepth 1")?;
            ensure!(pins.lines().all(|line| line.ends_with(".debug")), "left in the BPF file system:\n{pins}");
            let qdiscs = node.run("tc qdisc show")?;
            ensure!(!qdiscs.contains("clsact"), "{qdiscs}");
            let links = node.run("ip -o link")?;
            let ours = ["vpc-vxlan", "vpc-offload", "xdp"];
            ensure!(!ours.iter().any(|name| links.contains(name)), "{links}");
        }
        let target = self.fabric.guest("a2")?.ipv4()?;
        let pings = self.fabric.guest("a1")?.ping(target, PingOptions { count: 1, ..PingOptions::default() })?;
        ensure!(pings.received == 0, "guests still reach each other");
        Ok("pins, filters, qdiscs, XDP, the tunnel and the offload device are gone".to_owned())
    }

    /// What the nodes say and logged: for an error.
    fn evidence(&self) -> String {
        let mut text = String::new();
        for (node, agent) in NODES.iter().zip(&self.agents) {
            let log = agent.log();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(15)..].join("\n");
            let drops = self.fabric.node(node).and_then(|node| vpcctl(node, "drops")).unwrap_or_default();
            text.push_str(&format!("\n{node}:\n{drops}{end}"));
        }
        text
    }
}
