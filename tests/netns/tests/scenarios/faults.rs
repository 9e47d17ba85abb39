//! Agents that die, devices that vanish.

use anyhow::ensure;
use std::{
    thread::sleep,
    time::{Duration, Instant},
};
use vpc_lab::{
    Agent, Fabric,
    agent::vpcctl,
    background::Background,
    iperf::{Load, Throughput},
    ping::BackgroundPing,
};
use vpc_netns_tests::{TOPOLOGY, fabric, reaches, soon_reaches};

fn ping_along(fabric: &Fabric, from: &str, to: &str) -> BackgroundPing {
    let (from, to) = (fabric.guest(from).expect("a guest"), fabric.guest(to).expect("a guest"));
    let log = from.logs().join(format!("{}-{}.ping", from.plan().name, to.plan().name));
    BackgroundPing::start(from.netns(), to.ipv4().expect("an address"), 0.005, log).expect("ping starts")
}

#[test]
fn a_killed_agent_loses_no_packet_and_converges_again() {
    let mut fabric = fabric(TOPOLOGY).unwrap();
    let pings = [ping_along(&fabric, "a1", "b1"), ping_along(&fabric, "x1", "x2"), ping_along(&fabric, "a1", "b2")];
    sleep(Duration::from_millis(300));
    fabric.agent_mut("hv1").unwrap().kill().unwrap();
    sleep(Duration::from_millis(1_000));
    let took = fabric.restart_agent("hv1").unwrap();
    assert!(took < Duration::from_secs(5), "{took:?}");
    // And at a moment of its start at which it has not converged yet.
    fabric.agent_mut("hv1").unwrap().kill().unwrap();
    let node = fabric.node("hv1").unwrap();
    for delay in [5, 20, 50, 100] {
        let mut young = Agent::start(node, fabric.topology()).unwrap();
        sleep(Duration::from_millis(delay));
        young.kill().unwrap();
    }
    fabric.restart_agent("hv1").unwrap();
    sleep(Duration::from_millis(300));
    for running in pings {
        let pings = running.stop().unwrap();
        assert!(pings.sent > 200, "{pings:?}");
        assert_eq!(pings.lost(), 0, "{pings:?}");
    }
}

#[test]
fn a_tcp_connection_outlives_the_agents() {
    let mut fabric = fabric(TOPOLOGY).unwrap();
    let (server, client) = {
        let (a1, b1) = (fabric.guest("a1").unwrap(), fabric.guest("b1").unwrap());
        let mut command = b1.netns().command("iperf3");
        let server = Background::start(command.args(["-s", "-1"]), b1.logs().join("long.server")).unwrap();
        sleep(Duration::from_millis(300));
        let mut command = a1.netns().command("iperf3");
        command.args(["-J", "-t", "4", "-b", "50M", "-c", "10.0.2.10"]);
        (server, Background::start(&command, a1.logs().join("long.client")).unwrap())
    };
    for node in ["hv1", "hv2"] {
        sleep(Duration::from_millis(400));
        fabric.agent_mut(node).unwrap().kill().unwrap();
        sleep(Duration::from_millis(200));
        fabric.restart_agent(node).unwrap();
    }
    let mut client = client;
    assert!(client.wait(Duration::from_secs(10)).unwrap().success());
    let throughput = Throughput::parse(&client.output()).unwrap();
    assert!(throughput.bits_per_second > 45e6, "{throughput:?}");
    drop(server);
}

#[test]
fn a_stopped_agent_leaves_the_forwarding() {
    let mut fabric = fabric(TOPOLOGY).unwrap();
    let running = ping_along(&fabric, "a1", "b1");
    sleep(Duration::from_millis(200));
    for node in ["hv1", "hv2"] {
        fabric.agent_mut(node).unwrap().stop().unwrap();
    }
    sleep(Duration::from_millis(500));
    let pings = running.stop().unwrap();
    assert!(pings.sent > 30 && pings.lost() == 0, "{pings:?}");
    // Also for flows that begin now.
    reaches(&fabric, "b1", "a3").unwrap();
}

#[test]
fn a_second_agent_ends_at_once_and_names_the_first() {
    let mut fabric = fabric(TOPOLOGY).unwrap();
    let first = fabric.agent_mut("hv1").unwrap().pid();
    let start = Instant::now();
    let mut command = Agent::command(fabric.node("hv1").unwrap(), fabric.topology()).unwrap();
    let output = vpc_lab::command::any_output(&mut command).unwrap();
    assert!(!output.status.success() && start.elapsed() < Duration::from_secs(2));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&first.to_string()), "{first} is not in: {text}");
    reaches(&fabric, "a1", "a2").unwrap();
}

#[test]
fn uninstall_leaves_nothing() {
    let mut fabric = fabric(TOPOLOGY).unwrap();
    reaches(&fabric, "a1", "b1").unwrap();
    fabric.agent_mut("hv1").unwrap().stop().unwrap();
    let node = fabric.node("hv1").unwrap();
    vpcctl(node, "uninstall").unwrap();
    // Kernels put two files of their own into each BPF file system.
    let pins = node.run("find /sys/fs/bpf -mindepth 1 -not -name *.debug").unwrap();
    assert_eq!(pins, "", "left in the BPF file system");
    let attached = node.run("bpftool net show").unwrap();
    let left: Vec<_> = attached.lines().filter(|line| line.contains("tap-") || line.contains("eth1")).collect();
    assert!(left.is_empty(), "{left:#?}");
    let links = node.run("ip -br link").unwrap();
    let names: Vec<_> = links.lines().filter_map(|line| line.split(['@', ' ']).next()).collect();
    let ours = |name: &&str| *name == "lo" || *name == "eth1" || name.starts_with("tap-");
    assert!(names.iter().all(ours), "{names:?}");
    // And it can begin anew.
    fabric.restart_agent("hv1").unwrap();
    reaches(&fabric, "a1", "b1").unwrap();
}

#[test]
fn a_device_that_vanishes_and_comes_back_is_served_again() {
    let fabric = fabric(TOPOLOGY).unwrap();
    let (hv1, hv2) = (fabric.node("hv1").unwrap().netns(), fabric.node("hv2").unwrap().netns());
    for _ in 0..2 {
        hv1.ip(&format!("link set tap-a1 netns {}", hv2.name())).unwrap();
        sleep(Duration::from_millis(300));
        hv2.ip(&format!("link set tap-a1 netns {}", hv1.name())).unwrap();
        hv1.ip("link set tap-a1 up").unwrap();
        let took = soon_reaches(&fabric, "a1", "a2").unwrap();
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    for names in [["tap-a1", "other"], ["other", "tap-a1"]] {
        hv1.ip(&format!("link set {} down", names[0])).unwrap();
        hv1.ip(&format!("link set {} name {}", names[0], names[1])).unwrap();
        hv1.ip(&format!("link set {} up", names[1])).unwrap();
        sleep(Duration::from_millis(100));
    }
    soon_reaches(&fabric, "a1", "b1").unwrap();
    soon_reaches(&fabric, "x2", "x1").unwrap();
}

#[test]
fn an_agent_may_start_before_its_devices() {
    let mut fabric =
        vpc_lab::Fabric::build(vpc_lab::Lab::new().unwrap(), TOPOLOGY, vpc_lab::UnderlayOptions::default()).unwrap();
    let (hv1, parked) = (fabric.node("hv1").unwrap().netns().name().to_owned(), "tap-a1");
    let hv2 = fabric.node("hv2").unwrap().netns().name().to_owned();
    fabric.node("hv1").unwrap().netns().ip(&format!("link set {parked} netns {hv2}")).unwrap();
    fabric.start_agents().unwrap();
    reaches(&fabric, "a3", "a2").unwrap();
    let hv2 = fabric.node("hv2").unwrap().netns();
    hv2.ip(&format!("link set {parked} netns {hv1}")).unwrap();
    fabric.node("hv1").unwrap().netns().ip(&format!("link set {parked} up")).unwrap();
    soon_reaches(&fabric, "a1", "a2").unwrap();
}

#[test]
fn load_of_a_dead_agents_node_passes_at_speed() {
    let mut fabric = fabric(TOPOLOGY).unwrap();
    for node in ["hv1", "hv2"] {
        fabric.agent_mut(node).unwrap().kill().unwrap();
    }
    let (a1, b1) = (fabric.guest("a1").unwrap(), fabric.guest("b1").unwrap());
    let tcp = a1.iperf(b1, b1.ipv6().unwrap(), Load::Tcp { streams: 2 }, 1).unwrap();
    let check = || {
        ensure!(tcp.gigabits() > 0.2, "{tcp:?}");
        Ok(())
    };
    check().unwrap();
}
