//! Changes of the topology file while traffic flows.

use anyhow::ensure;
use std::{fmt::Write, fs, thread::sleep, time::Duration};
use vpc_lab::{
    agent::vpcctl,
    ping::{BackgroundPing, PingOptions},
    wait::eventually,
};
use vpc_netns_tests::{SOON, TOPOLOGY, does_not_reach, fabric, reaches, soon_reaches};

pub const A4: &str = "  - {name: a4, subnet: red-a, node: hv2, device: tap-a4, mac: '02:00:00:00:01:13', \
                  private_ips: [10.0.1.13, 'fd00:1:0:1::13']}\n";

/// The topology with a route that swallows what is for b1's IPv4 address.
pub fn with_blackhole() -> String {
    TOPOLOGY.replace("{name: red-a, vpc: red,", "{name: red-a, vpc: red, route_table: holes,")
        + "route_tables:\n  - {name: holes, vpc: red, routes: [{destination: 10.0.2.10/32, blackhole: true}]}\n"
}

#[test]
fn an_added_port_talks_and_a_removed_one_falls_silent() {
    let mut fabric = fabric(TOPOLOGY).unwrap();
    fabric.edit(&(TOPOLOGY.to_owned() + A4)).unwrap();
    soon_reaches(&fabric, "a1", "a4").unwrap();
    soon_reaches(&fabric, "b1", "a4").unwrap();
    // The guest and its device stay, only the file forgets them.
    fabric.write_topology(TOPOLOGY).unwrap();
    eventually(SOON, || does_not_reach(&fabric, "a1", "a4")).unwrap();
    reaches(&fabric, "a1", "a2").unwrap();
}

#[test]
fn a_port_moves_to_another_node_under_traffic() {
    let mut fabric = fabric(TOPOLOGY).unwrap();
    let running = {
        let (b1, a2) = (fabric.guest("b1").unwrap(), fabric.guest("a2").unwrap());
        BackgroundPing::start(b1.netns(), a2.ipv4().unwrap(), 0.01, b1.logs().join("move.ping")).unwrap()
    };
    sleep(Duration::from_millis(300));
    let moved = TOPOLOGY.replace("name: a2, subnet: red-a, node: hv2", "name: a2, subnet: red-a, node: hv1");
    fabric.edit(&moved).unwrap();
    for from in ["a1", "b1", "b2"] {
        soon_reaches(&fabric, from, "a2").unwrap();
    }
    fabric.edit(TOPOLOGY).unwrap();
    for from in ["a1", "b1", "b2"] {
        soon_reaches(&fabric, from, "a2").unwrap();
    }
    let pings = running.stop().unwrap();
    assert!(pings.received > 50 && pings.lost() < 200, "{pings:?}: silent for {} ms", pings.lost() * 10);
}

#[test]
fn a_changed_route_reaches_a_live_flow() {
    let fabric = fabric(TOPOLOGY).unwrap();
    let (a1, b1) = (fabric.guest("a1").unwrap(), fabric.guest("b1").unwrap());
    let running = BackgroundPing::start(a1.netns(), b1.ipv4().unwrap(), 0.01, a1.logs().join("route.ping")).unwrap();
    sleep(Duration::from_millis(300));
    fabric.write_topology(&with_blackhole()).unwrap();
    let options = PingOptions { count: 1, ..PingOptions::default() };
    eventually(SOON, || {
        let pings = a1.ping(b1.ipv4()?, options)?;
        ensure!(pings.received == 0, "still forwarded");
        Ok(())
    })
    .unwrap();
    sleep(Duration::from_millis(300));
    let pings = running.stop().unwrap();
    assert!(pings.lost() >= 20, "the live flow went on: {pings:?}");
    reaches(&fabric, "a1", "b2").unwrap();
    fabric.write_topology(TOPOLOGY).unwrap();
    soon_reaches(&fabric, "a1", "b1").unwrap();
}

#[test]
fn a_bad_file_is_refused_and_the_last_state_stays() {
    let mut fabric = fabric(TOPOLOGY).unwrap();
    let bad = [
        TOPOLOGY[..TOPOLOGY.len() / 2].to_owned(),
        TOPOLOGY.replace("vpc: red,", "vpc: rde,"),
        TOPOLOGY.replace("vni: 5002", "vni: 5001"),
        TOPOLOGY.to_owned() + "flavour: none\n",
        String::new(),
    ];
    for text in &bad {
        let before = fabric.agent_mut("hv1").unwrap().log().len();
        fabric.write_topology(text).unwrap();
        let agent = fabric.agent_mut("hv1").unwrap();
        eventually(SOON, || {
            let log = agent.log();
            ensure!(log[before..].to_lowercase().contains("error"), "the agent logs no error: {}", &log[before..]);
            Ok(())
        })
        .unwrap();
        reaches(&fabric, "a1", "a2").unwrap();
        reaches(&fabric, "a1", "b1").unwrap();
    }
    fabric.edit(&(TOPOLOGY.to_owned() + A4)).unwrap();
    soon_reaches(&fabric, "a1", "a4").unwrap();
}

#[test]
fn the_file_may_be_written_in_place_or_replaced_or_absent_for_a_while() {
    let mut fabric = fabric(TOPOLOGY).unwrap();
    let with_port = TOPOLOGY.to_owned() + A4;
    fabric.edit(&with_port).unwrap();
    soon_reaches(&fabric, "a1", "a4").unwrap();
    fs::write(fabric.topology(), TOPOLOGY).unwrap();
    eventually(SOON, || does_not_reach(&fabric, "a1", "a4")).unwrap();
    fs::remove_file(fabric.topology()).unwrap();
    sleep(Duration::from_millis(300));
    reaches(&fabric, "a1", "a2").unwrap();
    fs::write(fabric.topology(), &with_port).unwrap();
    soon_reaches(&fabric, "a1", "a4").unwrap();
}

#[test]
fn a_topology_larger_than_a_map_is_refused_with_the_numbers() {
    let mut fabric = fabric(TOPOLOGY).unwrap();
    let mut text = TOPOLOGY.to_owned();
    for number in 0..1_100_u32 {
        let (high, low) = (number / 200 + 16, number % 200 + 10);
        writeln!(
            text,
            "  - {{name: many-{number}, subnet: many, node: hv1, device: many-{number}, \
             mac: '02:00:00:01:{high:02x}:{low:02x}', private_ips: [10.0.{high}.{low}]}}"
        )
        .unwrap();
    }
    let text = text
        .replace("  - {name: blue-a,", "  - {name: many, vpc: red, cidr_blocks: [10.0.16.0/20]}\n  - {name: blue-a,");
    let before = fabric.agent_mut("hv1").unwrap().log().len();
    fabric.write_topology(&text).unwrap();
    let agent = fabric.agent_mut("hv1").unwrap();
    eventually(SOON, || {
        let log = agent.log();
        let new = &log[before..];
        ensure!(new.contains("1024") || new.contains("1023"), "the limit is not named: {new}");
        ensure!(new.contains("1104") || new.contains("1103"), "the need is not named: {new}");
        Ok(())
    })
    .unwrap();
    reaches(&fabric, "a1", "a2").unwrap();
    let ports = vpcctl(fabric.node("hv1").unwrap(), "get ports").unwrap();
    assert!(!ports.contains("many-"), "{ports}");
}
