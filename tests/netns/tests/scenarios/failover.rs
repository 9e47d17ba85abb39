//! Two gateways on one segment outside: one that is cut off, on either side, costs no connection; one whose agent dies
//! costs nothing.

use anyhow::{Context, Result, ensure};
use std::{
    net::{IpAddr, SocketAddr},
    sync::LazyLock,
    thread::sleep,
    time::{Duration, Instant},
};
use vpc_lab::{
    Fabric, Netns,
    agent::vpcctl_json,
    crowd::{Crowd, Gathering},
    datagrams::{DatagramStream, Streamed},
    outside::{SERVER, SERVER_V6},
    underlay::LinkState,
    wait::eventually,
};
use vpc_netns_tests::{
    SOON, drops, fabric_alone,
    topology::{Node, port, topology},
};

/// hv1 has guests, hv2 and hv3 are gateways on one segment.
///
/// ```text
///   web-1 (.20), app-1   hv1 ───┬── hv2 [eth2, .2] ──┐
///                               └── hv3 [eth2, .3] ──┴── outside: next hop .1, server 198.51.100.9
/// ```
///
/// The router outside believes web-1's global address to be on its link: it asks which gateway has it.
pub static TOPOLOGY: LazyLock<String> = LazyLock::new(|| {
    let networks = "\
vpcs:
  - {name: red, vni: 5001, cidr_blocks: [10.0.0.0/16, '2001:db8:1::/56']}
subnets:
  - {name: public, vpc: red, cidr_blocks: [10.0.1.0/24, '2001:db8:1:1::/64'], route_table: rt-public}
  - {name: private, vpc: red, cidr_blocks: [10.0.2.0/24], route_table: rt-private}
route_tables:
  - {name: rt-public, vpc: red, routes: [{destination: 0.0.0.0/0, internet_gateway: igw}, {destination: '::/0', internet_gateway: igw}]}
  - {name: rt-private, vpc: red, routes: [{destination: 0.0.0.0/0, nat_gateway: ngw}]}
internet_gateways: [{name: igw, vpc: red}]
elastic_ips:
  - {name: eip-nat, address: 203.0.113.10}
  - {name: eip-web, address: 203.0.113.20, port: web-1}
nat_gateways: [{name: ngw, vpc: red, elastic_ips: [eip-nat], ports_per_node: 8192}]
security_groups:
  - {name: web, vpc: red, ingress: [{protocol: udp, ports: [53], cidr_blocks: [0.0.0.0/0, '::/0']}]}
";
    let ports = [
        port("web-1", "public", "hv1", &["10.0.1.10", "2001:db8:1:1::10"]).with("security_groups: [web]"),
        port("app-1", "private", "hv1", &["10.0.2.10"]),
    ];
    topology(&[Node::Hypervisor, Node::Gateway, Node::Gateway], networks, &ports)
});

const NAT: &str = "203.0.113.10";
const WEB: &str = "203.0.113.20";
const WEB_V6: &str = "2001:db8:1:1::10";
const GATEWAYS: [&str; 2] = ["hv2", "hv3"];
const CONNECTIONS: usize = 1_000;
const RATE: u32 = 10_000;
const FLOWS: usize = 8;
/// What a failure may cost.
const OUTAGE: Duration = Duration::from_secs(1);
/// TCP has doubled its timeout twice by then.
const TCP_OUTAGE: Duration = Duration::from_secs(2);

fn outside(fabric: &Fabric) -> &Netns {
    fabric.outside().expect("an outside").netns()
}

fn socket(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().expect("an address"), port)
}

/// TCP and UDP from a guest through the NAT gateway, and UDP from outside to an elastic IP and to a global address.
struct Load {
    crowd: Crowd,
    outwards: DatagramStream,
    inwards: [DatagramStream; 2],
}

/// What came of it.
#[derive(Debug)]
struct Outcome {
    crowd: Gathering,
    outwards: Streamed,
    inwards: [Streamed; 2],
}

impl Load {
    fn start(fabric: &Fabric) -> Result<Self> {
        let (app, web) = (fabric.guest("app-1")?.netns(), fabric.guest("web-1")?.netns());
        let out = outside(fabric);
        let (tcp, udp) = (SocketAddr::new(SERVER, 8_080), SocketAddr::new(SERVER, 9_000));
        let inwards = |first_port, bind, target| {
            DatagramStream::start((out, first_port), (web, socket(bind, 53), socket(target, 53)), (FLOWS, RATE))
        };
        Ok(Self {
            crowd: Crowd::start(app, out, (tcp, tcp), CONNECTIONS)?,
            outwards: DatagramStream::start((app, 20_000), (out, udp, udp), (FLOWS, RATE))?,
            inwards: [inwards(30_000, "10.0.1.10", WEB)?, inwards(31_000, WEB_V6, WEB_V6)?],
        })
    }

    fn stop(self, since: Instant) -> Result<Outcome> {
        let (outwards, [v4, v6]) = (self.outwards.stop()?, self.inwards);
        Ok(Outcome { inwards: [v4.stop()?, v6.stop()?], outwards, crowd: self.crowd.stop(since)? })
    }
}

impl Outcome {
    /// No connection broke, all of them go on, and nothing was away for longer than it may be.
    fn survived(&self) -> Result<()> {
        println!("{self:#?}");
        ensure!(self.crowd.connections == CONNECTIONS && self.crowd.broken == 0, "connections broke: {self:?}");
        ensure!(self.crowd.silent == 0, "connections hang: {self:?}");
        ensure!(self.crowd.longest_wait < TCP_OUTAGE, "TCP took too long: {self:?}");
        for streamed in [self.outwards].into_iter().chain(self.inwards) {
            ensure!(streamed.longest_loss < OUTAGE, "away for too long: {self:?}");
        }
        Ok(())
    }

    /// Nothing got lost.
    fn is_whole(&self) -> bool {
        [self.outwards].iter().chain(&self.inwards).all(|streamed| streamed.lost == 0)
    }
}

/// The gateway to which the outside sends what is for an address, by its neighbour table.
fn spoken_for_by<'f>(fabric: &'f Fabric, address: &str) -> Result<&'f str> {
    let line = outside(fabric).run(&format!("ip neigh show {address} dev br0"))?;
    for name in GATEWAYS {
        if line.contains(&mac_of(fabric, name)?) {
            return Ok(name);
        }
    }
    anyhow::bail!("nobody: {line}")
}

/// The MAC of a gateway's external interface.
fn mac_of(fabric: &Fabric, name: &str) -> Result<String> {
    fabric.node(name)?.netns().mac("eth2")
}

fn other(name: &str) -> &'static str {
    if name == GATEWAYS[0] { GATEWAYS[1] } else { GATEWAYS[0] }
}

/// The fabric, once all nodes agree that both gateways are alive.
fn agreed() -> Result<Fabric> {
    let fabric = fabric_alone(&TOPOLOGY)?;
    outside(&fabric).ip(&format!("route replace 2001:db8:1::/56 dev br0 src {SERVER_V6}"))?;
    for (node, gateway) in [("hv1", "hv2"), ("hv1", "hv3"), ("hv2", "hv3"), ("hv3", "hv2")] {
        wait_state(&fabric, node, gateway, ("alive", true))?;
    }
    Ok(fabric)
}

/// What `vpcctl status` of a node says of a gateway.
fn state(fabric: &Fabric, node: &str, gateway: &str) -> Result<(String, bool)> {
    let status = vpcctl_json(fabric.node(node)?, "status")?;
    let rows = status["gateways"].as_array().context("no gateways")?;
    let row = rows.iter().find(|row| row["node"] == gateway).context("no such gateway")?;
    Ok((row["state"].as_str().unwrap_or_default().to_owned(), row["used"] == true))
}

fn wait_state(fabric: &Fabric, node: &str, gateway: &str, wanted: (&str, bool)) -> Result<Duration> {
    // One that fails again and again has to prove itself for longer each time.
    let ((), took) = eventually(4 * SOON, || {
        let state = state(fabric, node, gateway)?;
        ensure!((state.0.as_str(), state.1) == wanted, "{gateway} is {state:?}, not {wanted:?}");
        Ok(())
    })?;
    Ok(took)
}

fn external_link(fabric: &Fabric, gateway: &str, state: LinkState) -> Result<()> {
    let word = if state == LinkState::Up { "up" } else { "down" };
    outside(fabric).ip(&format!("link set to-{gateway} {word}"))
}

#[test]
fn a_gateway_that_is_cut_off_costs_no_connection_and_under_a_second() {
    let fabric = agreed().unwrap();
    // Each side of the gateway to which the outside sends what is for guests behind NAT, what is for an elastic IP, and
    // what is for a global address.
    let sides = |address| [("underlay", address), ("outside", address)];
    for (side, address) in [NAT, WEB, WEB_V6].into_iter().flat_map(sides) {
        let load = Load::start(&fabric).with_context(|| drops(&fabric)).unwrap();
        sleep(Duration::from_secs(1));
        let cut = spoken_for_by(&fabric, address).unwrap().to_owned();
        let set = |state| match side {
            "underlay" => fabric.underlay().set_link(&cut, "eth1", state).unwrap(),
            _ => external_link(&fabric, &cut, state).unwrap(),
        };
        set(LinkState::Down);
        sleep(Duration::from_millis(2_500));
        let then = Instant::now();
        sleep(Duration::from_millis(1_500));
        let word = if side == "underlay" { "silent" } else { "out_of_service" };
        assert_eq!(state(&fabric, "hv1", &cut).unwrap(), (word.to_owned(), false), "{side}");
        let result = load.stop(then).unwrap();
        println!("{side} of {cut} cut:");
        result.survived().with_context(|| format!("{side} of {cut} cut{}", drops(&fabric))).unwrap();
        assert_eq!(spoken_for_by(&fabric, address).unwrap(), other(&cut), "{side}");
        set(LinkState::Up);
        for (node, gateway) in [("hv1", cut.as_str()), (other(&cut), &cut), (&cut, other(&cut))] {
            wait_state(&fabric, node, gateway, ("alive", true)).unwrap();
        }
    }
}

#[test]
fn a_gateway_comes_back_without_loss() {
    let fabric = agreed().unwrap();
    for side in ["underlay", "outside"] {
        let cut = GATEWAYS[0];
        let set = |state| match side {
            "underlay" => fabric.underlay().set_link(cut, "eth1", state).unwrap(),
            _ => external_link(&fabric, cut, state).unwrap(),
        };
        wait_state(&fabric, "hv1", cut, ("alive", true)).unwrap();
        set(LinkState::Down);
        wait_state(&fabric, "hv1", cut, (if side == "underlay" { "silent" } else { "out_of_service" }, false)).unwrap();
        let load = Load::start(&fabric).with_context(|| drops(&fabric)).unwrap();
        sleep(Duration::from_secs(1));
        set(LinkState::Up);
        let took = wait_state(&fabric, "hv1", cut, ("alive", true)).unwrap();
        println!("{cut} back after {took:?}");
        sleep(Duration::from_secs(2));
        let result = load.stop(Instant::now() - Duration::from_secs(1)).unwrap();
        result.survived().with_context(|| format!("{side}{}", drops(&fabric))).unwrap();
        assert!(result.is_whole(), "{side}: {result:?}{}", drops(&fabric));
    }
}

#[test]
fn a_gateway_whose_agent_is_killed_loses_nothing() {
    let mut fabric = agreed().unwrap();
    let load = Load::start(&fabric).with_context(|| drops(&fabric)).unwrap();
    sleep(Duration::from_secs(1));
    for gateway in GATEWAYS {
        fabric.agent_mut(gateway).unwrap().kill().unwrap();
    }
    sleep(Duration::from_secs(3));
    for gateway in GATEWAYS {
        wait_state(&fabric, "hv1", gateway, ("alive", true)).unwrap();
    }
    // Also an agent that starts again changes nothing.
    for gateway in GATEWAYS {
        fabric.restart_agent(gateway).unwrap();
    }
    sleep(Duration::from_secs(1));
    let result = load.stop(Instant::now() - Duration::from_secs(1)).unwrap();
    result.survived().with_context(|| drops(&fabric)).unwrap();
    assert!(result.is_whole(), "{result:?}{}", drops(&fabric));
}

#[test]
fn one_gateway_answers_for_an_address_and_another_one_takes_over() {
    let fabric = agreed().unwrap();
    // Who answers ARP, asked so often that two would show.
    let answers = |address: &str| -> Vec<String> {
        let text = outside(&fabric)
            .run(&format!("arping -b -c 2 -w 3 -I br0 {address}"))
            .unwrap_or_else(|error| error.to_string());
        let mut macs: Vec<String> = GATEWAYS
            .iter()
            .filter(|name| text.to_lowercase().contains(&mac_of(&fabric, name).unwrap()))
            .map(|name| (*name).to_owned())
            .collect();
        macs.sort();
        macs
    };
    let mut moved = 0;
    for address in [NAT, WEB] {
        let before = answers(address);
        assert_eq!(before.len(), 1, "{address} is answered by {before:?}");
        let owner = before[0].clone();
        external_link(&fabric, &owner, LinkState::Down).unwrap();
        eventually(SOON, || {
            let now = answers(address);
            ensure!(now == [other(&owner)], "{address} is answered by {now:?}");
            Ok(())
        })
        .unwrap();
        external_link(&fabric, &owner, LinkState::Up).unwrap();
        eventually(SOON, || {
            let now = answers(address);
            ensure!(now == before, "{address} is answered by {now:?}");
            Ok(())
        })
        .unwrap();
        moved += 1;
    }
    assert_eq!(moved, 2);
}
