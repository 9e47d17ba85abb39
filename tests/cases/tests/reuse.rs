//! A session that is removed while a packet looks at it: its element may be another flow's, of another VPC, by then.

use vpc_cases::{
    case::{self, Hook, Offload},
    fabric::Fabric,
    host::{Host, Reuse},
    outcome::Outcome,
    packet,
    runner::{Arrival, Runner},
};

/// Flows of two VPCs with the same addresses, both ways: interface, hook, and packet.
const FLOWS: [(&str, Hook, &str); 6] = [
    (
        "tap-web1",
        Hook::Port,
        "[{eth: {src: web-1, dst: router}}, {ipv4: {src: web-1, dst: db-1}}, {udp: {src: 1, dst: 2}}]",
    ),
    (
        "tap-evil1",
        Hook::Port,
        "[{eth: {src: evil-1, dst: router}}, {ipv4: {src: evil-1, dst: evil-2}}, {udp: {src: 1, dst: 2}}]",
    ),
    (
        "tap-web1",
        Hook::Port,
        "[{eth: {src: web-1, dst: router}}, {ipv4: {src: web-1, dst: app-1}}, {udp: {src: 1, dst: 2}}]",
    ),
    (
        "tap-web1",
        Hook::Port,
        "[{eth: {src: web-1, dst: router}}, {ipv6: {src: web-1, dst: db-1}}, {udp: {src: 1, dst: 2}}]",
    ),
    (
        "tap-evil1",
        Hook::Port,
        "[{eth: {src: evil-1, dst: router}}, {ipv6: {src: evil-1, dst: evil-2}}, {udp: {src: 1, dst: 2}}]",
    ),
    (
        "eth1",
        Hook::UplinkXdp,
        "[{tunnel: {from: hv2, vni: 5001}}, {eth: {src: router, dst: web-1}}, {ipv4: {src: db-1, dst: web-1}}, {udp: {src: 9, dst: 7}}]",
    ),
];

#[test]
fn nobody_goes_anothers_way() {
    let fabric = Fabric::new(&case::read(&case::directory().join("routing.yaml")).unwrap()).unwrap();
    let devices = fabric.made_up_devices();
    let mut host = Host::default();
    host.start(&fabric.state(&devices).unwrap()).unwrap();
    let packets = FLOWS.map(|(device, hook, text)| {
        let bytes = packet::serialise(&serde_saphyr::from_str::<Vec<_>>(text).unwrap(), &fabric).unwrap().bytes;
        (devices.index(device).unwrap(), hook, bytes)
    });
    let all = |host: &mut Host| -> Vec<Outcome> {
        let run = |(ifindex, hook, bytes): &(u32, Hook, Vec<u8>)| {
            let (ifindex, hook) = (*ifindex, *hook);
            host.run(&Arrival { hook, ifindex, mark: 0, bytes, gso_size: 0, offload: Offload::None, copies: 0 })
                .unwrap()
        };
        packets.iter().map(run).collect()
    };
    all(&mut host);
    let own = all(&mut host);
    assert!(own.iter().all(|outcome| outcome.packet.is_some()), "all of them are forwarded: {own:?}");
    for when in [Reuse::Before, Reuse::Meanwhile] {
        host.reuse(when);
        assert_eq!(all(&mut host), own, "{when:?}");
        host.reuse(Reuse::Never);
        assert_eq!(all(&mut host), own, "after {when:?}");
    }
}
