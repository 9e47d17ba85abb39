//! A port that moves to another node with its state keeps its connections and its external ports.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::PathBuf,
    sync::LazyLock,
    thread::sleep,
    time::{Duration, Instant},
};
use vpc_lab::{
    Fabric,
    agent::{vpcctl, vpcctl_json, vpcctl_output},
    outside::SERVER,
    tcp::{Conversation, EchoServer},
    wait::eventually,
};
use vpc_netns_tests::{
    SOON, drops, fabric, fabric_alone,
    topology::{Node, port, topology},
};

/// The guest that moves is the only port of its VPC on its node, and no node that it is on at first is a gateway.
///
/// ```text
///   app (.10)   hv1 ───┬─── hv3 [eth2] ──── outside: server 198.51.100.9
///               hv2 ───┘    friend (.20)
/// ```
pub static TOPOLOGY: LazyLock<String> = LazyLock::new(|| on("hv1"));

/// The same with the guest on a node.
fn on(node: &str) -> String {
    let networks = "\
vpcs:
  - {name: red, vni: 5001, cidr_blocks: [10.0.0.0/16]}
subnets:
  - {name: private, vpc: red, cidr_blocks: [10.0.2.0/24], route_table: rt}
route_tables:
  - {name: rt, vpc: red, routes: [{destination: 0.0.0.0/0, nat_gateway: ngw}]}
elastic_ips:
  - {name: eip-nat, address: 203.0.113.10}
nat_gateways:
  - {name: ngw, vpc: red, elastic_ips: [eip-nat], ports_per_node: 1000}
";
    let ports = [port("app", "private", node, &["10.0.2.10"]), port("friend", "private", "hv3", &["10.0.2.20"])];
    topology(&[Node::Hypervisor, Node::Hypervisor, Node::Gateway], networks, &ports)
}

/// The longest that a moved connection may be silent.
const INTERRUPTION: Duration = Duration::from_secs(1);

/// What a live migration does: the guest stops here, its state goes along, it goes on there.
fn migrate(fabric: &mut Fabric, from: &str, to: &str) -> Result<()> {
    fabric.move_guest("app", to)?;
    let state = state_of_app(fabric, from)?;
    fabric.write_topology(&on(to))?;
    let taken = vpcctl_json(fabric.node(to)?, &format!("port import {}", state.display()))?;
    ensure!(taken["sessions"].as_u64() > Some(0) && taken["expired"] == 0, "{taken}");
    Ok(())
}

/// The same by one command, which reaches both agents.
fn migrate_at_once(fabric: &mut Fabric, from: &str, to: &str) -> Result<()> {
    fabric.move_guest("app", to)?;
    let run_dir = format!("/proc/{}/{}", fabric.agent_mut(to)?.pid(), "root/run/vpc-agent");
    let old = fabric.node(from)?;
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| vpcctl(old, &format!("port move app --to {run_dir}")));
        // It waits for the topology.
        sleep(Duration::from_millis(100));
        ensure!(!moving.is_finished(), "{:?}", moving.join());
        fabric.write_topology(&on(to))?;
        let said = moving.join().map_err(|_| anyhow::anyhow!("vpcctl panicked"))??;
        ensure!(said.contains("taken over, 0 sessions expired") && !said.starts_with("0 "), "{said}");
        Ok(())
    })
}

fn state_of_app(fabric: &Fabric, node: &str) -> Result<PathBuf> {
    let file = fabric.directory().join("app.json");
    vpcctl(fabric.node(node)?, &format!("port export app {}", file.display()))?;
    Ok(file)
}

/// A client with one UDP port, and the server that it talks to.
struct Datagrams {
    client: UdpSocket,
    server: UdpSocket,
}

impl Datagrams {
    fn new(fabric: &Fabric, port: u16) -> Result<Self> {
        let bind = |port| move || UdpSocket::bind(("0.0.0.0", port));
        let client = fabric.guest("app")?.netns().enter(bind(port))??;
        let server = fabric.outside()?.netns().enter(bind(port + 1))??;
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        }
        Ok(Self { client, server })
    }

    /// Whom the server sees, if question and answer arrive; at the second attempt if the first was lost.
    fn ask(&self) -> Result<SocketAddr> {
        self.attempt().or_else(|_| self.attempt())
    }

    fn attempt(&self) -> Result<SocketAddr> {
        self.client.send_to(b"question", SocketAddr::new(SERVER, self.server.local_addr()?.port()))?;
        let (_, seen) = self.server.recv_from(&mut [0; 16]).context("the question does not arrive")?;
        self.server.send_to(b"answer", seen)?;
        self.client.recv_from(&mut [0; 16]).context("the answer does not arrive")?;
        Ok(seen)
    }
}

#[test]
fn connections_survive_the_move_of_their_port_and_keep_their_external_ports() {
    let mut fabric = fabric_alone(&TOPOLOGY).unwrap();
    let app: IpAddr = fabric.guest("app").unwrap().ipv4().unwrap();
    let friend = fabric.guest("friend").unwrap().ipv4().unwrap();
    let netns = |name| fabric.guest(name).unwrap().netns();
    let _servers = [
        EchoServer::start(fabric.outside().unwrap().netns(), 7_000).unwrap(),
        EchoServer::start(netns("friend"), 7_000).unwrap(),
        EchoServer::start(netns("app"), 7_000).unwrap(),
    ];
    let conversations = [
        ("through NAT", Conversation::start(netns("app"), SocketAddr::new(SERVER, 7_000)).unwrap()),
        ("to a neighbour", Conversation::start(netns("app"), SocketAddr::new(friend, 7_000)).unwrap()),
        ("from a neighbour", Conversation::start(netns("friend"), SocketAddr::new(app, 7_000)).unwrap()),
    ];
    let datagrams = Datagrams::new(&fabric, 4_000).unwrap();
    let seen = datagrams.ask().unwrap();
    assert!((1_024..2_024).contains(&seen.port()), "{seen} is of the slice of hv1");

    // To another node, on to a third one that is the gateway itself, and home.
    for (from, to) in [("hv1", "hv2"), ("hv2", "hv3"), ("hv3", "hv1")] {
        let start = Instant::now();
        let migrated =
            if to == "hv2" { migrate_at_once(&mut fabric, from, to) } else { migrate(&mut fabric, from, to) };
        migrated.with_context(|| drops(&fabric)).unwrap();
        for (name, conversation) in &conversations {
            let goes_on = conversation.wait_answer(Duration::from_secs(3));
            goes_on.with_context(|| format!("{name}, on {to}{}", drops(&fabric))).unwrap();
        }
        eprintln!("on {to} after {:?}", start.elapsed());
        let again = datagrams.ask().with_context(|| format!("on {to}{}", drops(&fabric))).unwrap();
        assert_eq!(again, seen, "the external port stays, on {to}");
        sleep(Duration::from_millis(300));
    }
    for (name, conversation) in conversations {
        let talk = conversation.stop().with_context(|| name).unwrap();
        eprintln!("{name}: {talk:?}");
        assert!(talk.longest_pause < INTERRUPTION, "{name}: {talk:?}");
    }
    // The mapping is an ordinary one again.
    let nat = vpcctl_json(fabric.node("hv1").unwrap(), "nat --port app").unwrap();
    let mappings = nat["mappings"].as_array().unwrap();
    assert!(mappings.iter().any(|row| row["external"] == seen.to_string()), "{nat:#}");
}

#[test]
fn what_a_moved_port_begins_anew_is_of_the_new_node_and_the_old_agent_may_restart() {
    let mut fabric = fabric(&TOPOLOGY).unwrap();
    let before = Datagrams::new(&fabric, 4_000).unwrap();
    let seen = before.ask().unwrap();
    migrate(&mut fabric, "hv1", "hv2").unwrap();
    let anew = Datagrams::new(&fabric, 5_000).unwrap().ask().unwrap();
    assert!((2_024..3_024).contains(&anew.port()), "{anew} is of the slice of hv2");
    assert_eq!(before.ask().unwrap(), seen);
    let sessions = vpcctl(fabric.node("hv2").unwrap(), "sessions --port app").unwrap();
    assert!(sessions.contains("by node hv1, which lent the external port"), "{sessions}");
    fabric.agent_mut("hv1").unwrap().kill().unwrap();
    assert_eq!(before.ask().unwrap(), seen, "no agent is on the packet path");
    fabric.restart_agent("hv1").unwrap();
    // Longer than the sweeper's pause: what is kept for a guest that has left is not swept.
    sleep(Duration::from_secs(7));
    assert_eq!(before.ask().with_context(|| drops(&fabric)).unwrap(), seen);
    let nat = vpcctl_json(fabric.node("hv1").unwrap(), "nat").unwrap();
    let row = &nat["mappings"][0];
    assert_eq!((&row["external"], &row["moved_to"]), (&seen.to_string().into(), &"hv2".into()), "{nat:#}");
    // Without the node of the slice there is no way back to that port. The guest is to have another.
    let line = TOPOLOGY.lines().find(|line| line.contains("name: hv1, id: 1")).unwrap();
    fabric.write_topology(&on("hv2").replace(&format!("{line}\n"), "")).unwrap();
    let (other, _) = eventually(SOON, || {
        let other = before.ask()?;
        ensure!(other != seen, "still as {seen}");
        Ok(other)
    })
    .with_context(|| drops(&fabric))
    .unwrap();
    assert!((2_024..3_024).contains(&other.port()), "{other} is of the slice of hv2");
}

#[test]
fn a_state_that_does_not_fit_is_refused_whole() {
    let mut fabric = fabric(&TOPOLOGY).unwrap();
    let datagrams = Datagrams::new(&fabric, 4_000).unwrap();
    let seen = datagrams.ask().unwrap();
    let path = state_of_app(&fabric, "hv1").unwrap();
    // An export alone changes nothing.
    assert_eq!(datagrams.ask().unwrap(), seen);
    let node = || fabric.node("hv2").unwrap();
    let import = |state: &Value| {
        let file = fabric.directory().join("tampered.json");
        fs::write(&file, state.to_string()).unwrap();
        vpcctl_output(node(), &format!("port import {} --wait 0", file.display())).unwrap()
    };
    let good: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let refused = import(&good);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("no port app"), "not there yet: {why}");

    fabric.move_guest("app", "hv2").unwrap();
    fabric.write_topology(&on("hv2")).unwrap();
    let node = || fabric.node("hv2").unwrap();
    let import = |state: &Value| {
        let file = fabric.directory().join("tampered.json");
        fs::write(&file, state.to_string()).unwrap();
        vpcctl_output(node(), &format!("port import {} --wait 3", file.display())).unwrap()
    };
    eventually(SOON, || {
        ensure!(vpcctl(node(), "get ports")?.contains("tap-app"), "the port is not there yet");
        Ok(())
    })
    .unwrap();
    let changed = |pointer: &str, value: Value| {
        let mut state = good.clone();
        *state.pointer_mut(pointer).unwrap() = value;
        state
    };
    let cases = [
        (changed("/version", 2.into()), "it is of version 2"),
        (changed("/format", "something".into()), "`format` says something else"),
        (changed("/mac", "02:00:00:00:02:11".into()), "the port's MAC is 02:00:00:00:00:01"),
        (changed("/vpc", "blue".into()), "the port is in VPC red, not blue"),
        (changed("/sessions/0/local", "10.0.2.20:4000".into()), "10.0.2.20 is no address of the port"),
        (changed("/sessions/0/external", "203.0.113.10:1024".into()), "203.0.113.10:1024 does not stand for it"),
        (changed("/sessions/0/state", "established".into()), "protocol 17 has no state"),
        (changed("/mappings/0/internal", "10.0.2.20:4000".into()), "10.0.2.20 is no address of the port"),
        (changed("/mappings/0/external", "203.0.113.99:2000".into()), "no address of NAT gateway ngw"),
        (changed("/mappings/0/external", "203.0.113.10:80".into()), "in no node's slice"),
        (changed("/mappings/0/nat_gateway", "other".into()), "there is no NAT gateway other"),
    ];
    for (state, expected) in &cases {
        let refused = import(state);
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && why.contains(expected), "{expected}: {why}");
    }
    let nothing = vpcctl_json(node(), "nat --port app").unwrap();
    assert_eq!(nothing["mappings"], serde_json::json!([]), "nothing of it was taken");
    assert!(import(&good).status.success());
    assert_eq!(datagrams.ask().with_context(|| drops(&fabric)).unwrap(), seen);
}
