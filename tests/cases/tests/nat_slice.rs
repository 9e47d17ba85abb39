//! How much of a slice of external ports is given out before a flow is refused.

use std::collections::BTreeSet;
use vpc_cases::{
    case::{self, Hook, Offload},
    fabric::Fabric,
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

/// RFC 4787 leaves the choice of a port open; a gateway with free ports that refuses flows would be of no use.
#[test]
fn nine_of_ten_ports_are_given_out_before_a_flow_is_refused() {
    let mut file = case::read(&case::directory().join("north_south.yaml")).unwrap();
    file.topology = file.topology.replace("ports_per_node: 4", &format!("ports_per_node: {PORTS}"));
    let fabric = Fabric::new(&file).unwrap();
    let devices = fabric.made_up_devices();
    let mut host = Host::default();
    host.start(&fabric.state(&devices).unwrap()).unwrap();
    let [ifindex, uplink] = ["tap-app1", "eth1"].map(|name| devices.index(name).unwrap());
    let mut leaves = |port: &u16| -> bool {
        let text = format!(
            "[{{eth: {{src: app-1, dst: router}}}}, {{ipv4: {{src: app-1, dst: 198.51.100.9}}}}, {{udp: {{src: {port}, dst: 53}}}}]"
        );
        let bytes = packet::serialise(&serde_saphyr::from_str::<Vec<_>>(&text).unwrap(), &fabric).unwrap().bytes;
        let arrival = Arrival {
            hook: Hook::Port,
            ifindex,
            mark: 0,
            bytes: &bytes,
            gso_size: 0,
            offload: Offload::None,
            copies: 0,
        };
        matches!(host.run(&arrival).unwrap().verdict, Seen::Whole(End::Transmit(index)) if index == uplink)
    };
    // Ports in a row would have homes far from each other.
    let mut random = 1_u64;
    let ports = std::iter::repeat_with(|| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 48) as u16
    });
    let mut seen = BTreeSet::new();
    let served = ports.filter(|port| *port != 0 && seen.insert(*port)).take(PORTS).take_while(&mut leaves).count();
    assert!(served >= GIVEN_OUT, "{served} of {PORTS} ports were given out");
}
