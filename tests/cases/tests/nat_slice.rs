//! How much of a slice of external ports is given out before a flow is refused.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use vpc_cases::{
    case::{self, Bucket, Hook, Offload},
    fabric::{Devices, Fabric},
    host::Host,
    outcome::Seen,
    packet,
    runner::{Arrival, Runner},
};
use vpc_datapath::verdict::End;

/// Ports of the slice.
const PORTS: usize = 1_000;
/// At least so many of them.
const GIVEN_OUT: usize = 900;

/// A guest behind a NAT gateway.
struct Guest {
    fabric: Fabric,
    devices: Devices,
    host: Host,
}

impl Guest {
    fn new() -> Self {
        let mut file = case::read(&case::directory().join("north_south.yaml")).unwrap();
        file.topology = file.topology.replace("ports_per_node: 4", &format!("ports_per_node: {PORTS}"));
        let fabric = Fabric::new(&file).unwrap();
        let devices = fabric.made_up_devices();
        let mut host = Host::default();
        host.start(&fabric.state(&devices).unwrap()).unwrap();
        Self { fabric, devices, host }
    }

    /// Whether a datagram leaves that the guest sends from this port.
    fn sends(&mut self, port: u16) -> bool {
        let text = format!(
            "[{{eth: {{src: app-1, dst: router}}}}, {{ipv4: {{src: app-1, dst: 198.51.100.9}}}}, {{udp: {{src: {port}, dst: 53}}}}]"
        );
        let layers: Vec<_> = serde_saphyr::from_str(&text).unwrap();
        let bytes = packet::serialise(&layers, &self.fabric).unwrap().bytes;
        let [ifindex, uplink] = ["tap-app1", "eth1"].map(|name| self.devices.index(name).unwrap());
        let arrival = Arrival {
            hook: Hook::Port,
            ifindex,
            mark: 0,
            bytes: &bytes,
            gso_size: 0,
            offload: Offload::None,
            copies: 0,
        };
        matches!(self.host.run(&arrival).unwrap().verdict, Seen::Whole(End::Transmit(index)) if index == uplink)
    }

    /// Sends from one port after the other: how many leave, and the port of the first that does not.
    fn fill(&mut self) -> (usize, u16) {
        let mut ports = random_ports();
        let mut served = 0;
        loop {
            let port = ports.next().expect("no end");
            if !self.sends(port) {
                return (served, port);
            }
            served += 1;
        }
    }
}

/// Ports in a row would have homes far from each other.
fn random_ports() -> impl Iterator<Item = u16> {
    let (mut random, mut seen) = (1_u64, BTreeSet::from([0]));
    std::iter::repeat_with(move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 48) as u16
    })
    .filter(move |port| seen.insert(*port))
}

/// RFC 4787 leaves the choice of a port open; a gateway with free ports that refuses flows would be of no use.
#[test]
fn nine_of_ten_ports_are_given_out_before_a_flow_is_refused() {
    let (served, _) = Guest::new().fill();
    assert!((GIVEN_OUT..=PORTS).contains(&served), "{served} of {PORTS} ports were given out");
}

/// Else a guest that opens flows where no port is left would have the node look through the slice for each packet.
#[test]
fn a_port_may_search_long_only_so_many_times_a_second() {
    let mut guest = Guest::new();
    guest.host.exhaust(guest.fabric.slot("app-1").unwrap(), Bucket::Nat).unwrap();
    let (served, refused) = guest.fill();
    assert!(served < GIVEN_OUT, "{served} of {PORTS} ports were given out after short searches");
    guest.host.wait(1_000).unwrap();
    assert!(guest.sends(refused), "a second later it may");
}
