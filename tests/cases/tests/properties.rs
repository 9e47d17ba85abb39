//! What holds for every packet, on the host build.
#![expect(clippy::unwrap_used, reason = "a test")]

use proptest::{collection::vec, prelude::*, sample::select};
use std::{collections::BTreeSet, sync::LazyLock};
use vpc_cases::{
    case::{self, CaseFile, Hook, Offload},
    fabric::{Devices, Fabric},
    host::Host,
    outcome::{Outcome, Seen},
    packet::{self, Layer},
    runner::{Arrival, Runner},
    state::State,
};
use vpc_common::wire::Ipv4;
use vpc_datapath::{checksum, verdict::End};

/// Outer Ethernet, IPv4, UDP and VXLAN.
const OVERHEAD: usize = 50;

fn file(name: &str) -> CaseFile {
    case::read(&case::directory().join(name)).unwrap()
}

/// The fabric of a file of cases, compiled.
struct Prepared {
    fabric: Fabric,
    devices: Devices,
    state: State,
}

impl Prepared {
    fn of(name: &str) -> Self {
        let fabric = Fabric::new(&file(name)).unwrap();
        let devices = fabric.made_up_devices();
        let state = fabric.state(&devices).unwrap();
        Self { fabric, devices, state }
    }
}

static VXLAN: LazyLock<Prepared> = LazyLock::new(|| Prepared::of("vxlan.yaml"));
static FRAGMENTS: LazyLock<Prepared> = LazyLock::new(|| Prepared::of("fragments.yaml"));

/// A fabric with a fresh host.
struct Bench {
    fabric: &'static Fabric,
    devices: &'static Devices,
    host: Host,
}

impl Bench {
    fn new() -> Self {
        Self::of(&VXLAN)
    }

    fn of(prepared: &'static Prepared) -> Self {
        let Prepared { fabric, devices, state } = prepared;
        let mut host = Host::default();
        host.start(state).unwrap();
        Self { fabric, devices, host }
    }

    fn run(&mut self, hook: Hook, bytes: &[u8], gso_size: u32) -> Outcome {
        let ifindex = self.devices.index("tap-web1").unwrap();
        let outcome = self
            .host
            .run(&Arrival { hook, ifindex, mark: 0, bytes, gso_size, offload: Offload::None, copies: 0 })
            .unwrap();
        for (slot, counts) in &self.host.counts().unwrap().0 {
            assert!(counts.balance(), "slot {slot}: {counts:?}");
        }
        outcome
    }

    fn packets_of_all_cases(&self) -> Vec<Vec<u8>> {
        let files = case::files().unwrap();
        let steps = files.iter().flat_map(|(_, file)| &file.cases).flat_map(case::Case::steps);
        let sends = steps.filter_map(|step| if let case::Step::Send(send) = step { Some(send.packet) } else { None });
        // Names of other topologies mean nothing here.
        sends.filter_map(|layers| packet::serialise(&layers, self.fabric).ok()).map(|packet| packet.bytes).collect()
    }
}

/// Every frame that left, as tunnel packets: their outer IPv4 headers are right, and nothing is larger than the underlay.
fn outer_headers_are_right(outcome: &Outcome, devices: &Devices) {
    let uplink = devices.index("eth1").unwrap();
    let whole = match outcome.verdict {
        Seen::Whole(End::Transmit(index)) if index == uplink => outcome.packet.iter().collect(),
        _ => Vec::new(),
    };
    let copies = outcome.copies.get(&uplink).into_iter().flatten();
    for frame in whole.into_iter().chain(copies) {
        let header: &Ipv4 = bytemuck::from_bytes(&frame[14..34]);
        assert_eq!(checksum::ipv4_sum(header), 0xffff, "{frame:02x?}");
        assert_eq!(usize::from(header.total_length.get()), frame.len() - 14);
        assert!(frame.len() <= 1_514, "{} bytes", frame.len());
        assert_eq!(u16::from_be_bytes([frame[38], frame[39]]), header.total_length.get() - 20);
        assert!(u16::from_be_bytes([frame[34], frame[35]]) >= 49_152);
    }
}

fn hook() -> impl Strategy<Value = Hook> {
    select(vec![Hook::Port, Hook::UplinkXdp, Hook::UplinkTc])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic_and_are_counted(hook in hook(), bytes in vec(any::<u8>(), 0..400)) {
        let mut bench = Bench::new();
        let outcome = bench.run(hook, &bytes, 0);
        outer_headers_are_right(&outcome, bench.devices);
    }

    #[test]
    fn packets_with_some_bytes_changed_never_panic_and_are_counted(
        hook in hook(),
        which in any::<prop::sample::Index>(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        gso_size in select(vec![0_u32, 0, 0, 1, 1_400, 65_535]),
    ) {
        thread_local! {
            static PACKETS: Vec<Vec<u8>> = Bench::new().packets_of_all_cases();
        }
        let mut bytes = PACKETS.with(|packets| which.get(packets).clone());
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        // One in eight is cut off somewhere.
        if cut.index(8) == 0 {
            bytes.truncate(cut.index(bytes.len()));
        }
        let mut bench = Bench::new();
        let outcome = bench.run(hook, &bytes, gso_size);
        if gso_size == 0 {
            outer_headers_are_right(&outcome, bench.devices);
        }
    }

    #[test]
    fn the_ttl_goes_down_once_and_the_checksum_stays_right(ttl in 2_u8.., tos in any::<u8>(), id in any::<u16>()) {
        let mut bench = Bench::new();
        for _twice in 0..2 {
            let bytes = packet::serialise(&routed(ttl, tos, id), bench.fabric).unwrap().bytes;
            let outcome = bench.run(Hook::Port, &bytes, 0);
            outer_headers_are_right(&outcome, bench.devices);
            let frame = outcome.packet.unwrap();
            let inner: &Ipv4 = bytemuck::from_bytes(&frame[OVERHEAD + 14..OVERHEAD + 34]);
            prop_assert_eq!(inner.ttl, ttl - 1);
            prop_assert_eq!(checksum::ipv4_sum(inner), 0xffff);
            prop_assert_eq!(&frame[OVERHEAD + 34..], &bytes[34..]);
        }
    }
}

fn layers(text: &str) -> Vec<Layer> {
    serde_saphyr::from_str(text).unwrap()
}

fn routed(ttl: u8, tos: u8, id: u16) -> Vec<Layer> {
    layers(&format!(
        "[{{eth: {{src: web-1, dst: router}}}}, {{ipv4: {{src: web-1, dst: db-1, ttl: {ttl}, tos: {tos}, id: {id}}}}}, \
         {{udp: {{src: 1000, dst: 53}}}}, {{payload: 20}}]"
    ))
}

/// V9: 1,000 flows use at least 64 source ports, and each flow always the same one.
#[test]
fn source_ports_are_spread_and_stable() {
    for (ip, destination) in [("ipv4", "db-1"), ("ipv6", "db-1"), ("ipv4", "web-2"), ("ipv6", "web-2")] {
        let mut bench = Bench::new();
        let mut ports = BTreeSet::new();
        for flow in 0..1_000_u16 {
            let mac = if destination == "db-1" { "router" } else { destination };
            let text = format!(
                "[{{eth: {{src: web-1, dst: {mac}}}}}, {{{ip}: {{src: web-1, dst: {destination}}}}}, \
                 {{udp: {{src: {}, dst: 53}}}}]",
                1_000 + flow
            );
            let bytes = packet::serialise(&layers(&text), bench.fabric).unwrap().bytes;
            let mut port = || {
                let frame = bench.run(Hook::Port, &bytes, 0).packet.unwrap();
                u16::from_be_bytes([frame[34], frame[35]])
            };
            let first = port();
            assert_eq!(first, port(), "one flow, one port");
            ports.insert(first);
        }
        println!("{ip} to {destination}: {} ports", ports.len());
        assert!(ports.len() >= 64, "{} ports over 1,000 flows", ports.len());
        assert!(ports.iter().all(|port| *port >= 49_152));
    }
}

/// F3: whose fragments have come first, another tenant's do not push them out: not on a port, not among what is flooded,
/// not by external addresses.
#[test]
fn a_tenants_fragments_are_followed_whatever_others_send() {
    let fragment = |tunnel: &str, ethernet: &str, ip: &str, which: &str| {
        let cut = "cut: {of: [{udp: {src: 1000, dst: 2000}}, {payload: 1000}]";
        let (mark, cut) = match which {
            "first" => ("mf: true", format!("{cut}, from: 0, length: 512}}")),
            _ => ("offset: 512", format!("{cut}, from: 512}}")),
        };
        format!("[{{tunnel: {{from: hv2, {tunnel}}}}}, {{eth: {{{ethernet}}}}}, {{ipv4: {{{ip}, {mark}}}}}, {{{cut}}}]")
    };
    let ours_and_theirs = [
        // Flooded.
        (
            ("vni: 5001", "src: web-2, dst: broadcast", "src: web-2, dst: 255.255.255.255"),
            ("vni: 5002", "src: their-2, dst: broadcast", "src: their-2, dst: 255.255.255.255"),
        ),
        // From outside.
        (
            ("vni: 5001", "src: router, dst: router", "src: 198.51.100.9, dst: 203.0.113.20"),
            ("vni: 5002", "src: router, dst: router", "src: 198.51.100.9, dst: 203.0.113.21"),
        ),
        // Unicast.
        (
            ("vni: 5001", "src: web-2, dst: web-1", "src: web-2, dst: web-1"),
            ("vni: 5002", "src: their-2, dst: their-1", "src: their-2, dst: their-1"),
        ),
    ];
    for (ours, theirs) in ours_and_theirs {
        let mut bench = Bench::of(&FRAGMENTS);
        let mut send = |(tunnel, ethernet, ip): (&str, &str, &str), id: u16, which: &str| {
            let ip = format!("{ip}, id: {id}");
            let bytes =
                packet::serialise(&layers(&fragment(tunnel, ethernet, &ip, which)), bench.fabric).unwrap().bytes;
            let outcome = bench.run(Hook::Tunnel, &bytes, 0);
            outcome.packet.is_some() || !outcome.copies.is_empty()
        };
        assert!(send(ours, 1, "first"), "{ours:?}");
        for id in 0..3_000 {
            assert!(send(theirs, id, "first"), "{theirs:?} {id}");
        }
        assert!(send(ours, 1, "later"), "pushed out: {ours:?}");
        assert!(!send(ours, 2, "later"), "came before its first one: {ours:?}");
    }
}

/// R3: 100 generated messages a second and port, no more, and not less.
#[test]
fn generated_icmp_is_limited_to_a_hundred_a_second() {
    let mut bench = Bench::new();
    let text = "[{eth: {src: web-1, dst: router}}, {ipv4: {src: web-1, dst: 8.8.8.8}}, {udp: {src: 1, dst: 2}}]";
    let bytes = packet::serialise(&layers(text), bench.fabric).unwrap().bytes;
    let answers = |bench: &mut Bench, packets: usize| {
        let ends = (0..packets).map(|_| bench.run(Hook::Port, &bytes, 0).verdict);
        ends.filter(|verdict| *verdict == Seen::Whole(End::Answer)).count()
    };
    assert_eq!(answers(&mut bench, 300), 100);
    bench.host.wait(100).unwrap();
    assert_eq!(answers(&mut bench, 300), 10);
    bench.host.wait(60_000).unwrap();
    assert_eq!(answers(&mut bench, 300), 100);
}
