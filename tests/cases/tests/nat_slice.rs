//! How much of a slice of external ports is given out before a flow is refused.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
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

/// Guests behind a NAT gateway.
struct Guests {
    fabric: Fabric,
    devices: Devices,
    host: Host,
}

impl Guests {
    fn new(ports: usize) -> Self {
        let mut file = case::read(&case::directory().join("north_south.yaml")).unwrap();
        file.topology = file.topology.replace("ports_per_node: 4", &format!("ports_per_node: {ports}"));
        let fabric = Fabric::new(&file).unwrap();
        let devices = fabric.made_up_devices();
        let mut host = Host::default();
        host.start(&fabric.state(&devices).unwrap()).unwrap();
        Self { fabric, devices, host }
    }

    /// Whether a datagram leaves that the guest sends from this port.
    fn sends(&mut self, port: u16) -> bool {
        self.external_port("app-1", port, 9).is_some()
    }

    /// The external port by which a datagram leaves that a guest sends from this port to one of 198.51.100.0/24.
    fn external_port(&mut self, guest: &str, port: u16, peer: u8) -> Option<u16> {
        let text = format!(
            "[{{eth: {{src: {guest}, dst: router}}}}, {{ipv4: {{src: {guest}, dst: 198.51.100.{peer}}}}}, {{udp: {{src: {port}, dst: 53}}}}]"
        );
        let layers: Vec<_> = serde_saphyr::from_str(&text).unwrap();
        let bytes = packet::serialise(&layers, &self.fabric).unwrap().bytes;
        let device = format!("tap-{}", guest.replace('-', ""));
        let [ifindex, uplink] = [&*device, "eth1"].map(|name| self.devices.index(name).unwrap());
        let arrival = Arrival {
            hook: Hook::Port,
            ifindex,
            mark: 0,
            bytes: &bytes,
            gso_size: 0,
            offload: Offload::None,
            copies: 0,
        };
        let outcome = self.host.run(&arrival).unwrap();
        let left = outcome.verdict == Seen::Whole(End::Transmit(uplink));
        // Behind outer Ethernet, IPv4, UDP and VXLAN, and Ethernet and IPv4 within.
        left.then(|| outcome.packet.unwrap()[84..86].try_into().map(u16::from_be_bytes).unwrap())
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
    let (served, _) = Guests::new(PORTS).fill();
    assert!((GIVEN_OUT..=PORTS).contains(&served), "{served} of {PORTS} ports were given out");
}

/// Else a guest that opens flows where no port is left would have the node look through the slice for each packet.
#[test]
fn a_port_may_search_long_only_so_many_times_a_second() {
    let mut guests = Guests::new(PORTS);
    guests.host.exhaust(guests.fabric.slot("app-1").unwrap(), Bucket::Nat).unwrap();
    let (served, refused) = guests.fill();
    assert!(served < GIVEN_OUT, "{served} of {PORTS} ports were given out after short searches");
    guests.host.wait(1_000).unwrap();
    assert!(guests.sends(refused), "a second later it may");
}

/// RFC 4787 REQ-1, and no port overloading: also where most have been turned away from their homes.
#[test]
fn a_guests_port_has_one_external_port_and_shares_it_with_nobody() {
    const FEW: usize = 24;
    let mut guests = Guests::new(FEW);
    let (mut mappings, mut refused) = (BTreeMap::new(), 0);
    for random in random_ports().take(2_000) {
        let (guest, port, peer) =
            (["app-1", "app-2"][usize::from(random & 1)], random >> 1 & 15, (random >> 5 & 7) as u8);
        let Some(external) = guests.external_port(guest, 1_000 + port, peer) else {
            refused += 1;
            continue;
        };
        assert!((1_024..1_024 + FEW as u16).contains(&external), "{external} is in the slice");
        let before = *mappings.entry((guest, port)).or_insert(external);
        assert_eq!(external, before, "{guest} {port} to another peer");
    }
    assert_eq!(mappings.values().collect::<BTreeSet<_>>().len(), mappings.len(), "{mappings:?}");
    assert_eq!(mappings.len(), FEW, "the slice is given out whole");
    assert!(refused > 0, "to 24 of 32 who wanted one");
}
