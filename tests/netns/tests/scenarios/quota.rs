//! A guest that uses up what it may have does not use up what others may have.

use crate::stateful::dropped;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use vpc_lab::{
    agent::vpcctl_json,
    frames::{FrameSender, Mac, ethernet, syn},
    tcp::{Conversation, EchoServer, attempts},
};
use vpc_netns_tests::{
    drops, fabric_alone,
    topology::{Node, port, topology},
};

/// How long the flood lasts.
const FLOOD: Duration = Duration::from_secs(10);
/// How long it has lasted before the neighbour's connections count.
const BEFORE: Duration = Duration::from_secs(2);
/// Less than a second: a connection whose first SYN is lost has failed.
const PATIENCE: Duration = Duration::from_millis(900);
const PAUSE: Duration = Duration::from_millis(1);
const PORT: u16 = 80;
const IPV4: u16 = 0x0800;
// The first and the fourth of the ports.
const FLOODER: (Mac, Ipv4Addr) = ([2, 0, 0, 0, 0, 1], Ipv4Addr::new(10, 0, 1, 10));
const SINK: (Mac, Ipv4Addr) = ([2, 0, 0, 0, 0, 4], Ipv4Addr::new(10, 0, 1, 12));

/// hv1 has more ports than hv2, so each of them has a smaller share of its node's sessions.
///
/// ```text
///          hv1                        hv2
///   a      flooder, neighbour, idle   sink, server
/// ```
pub static TOPOLOGY: LazyLock<String> = LazyLock::new(|| {
    let networks = "\
vpcs:
  - {name: red, vni: 5001, cidr_blocks: [10.0.0.0/16]}
subnets:
  - {name: a, vpc: red, cidr_blocks: [10.0.1.0/24]}
";
    let ports = [
        port("flooder", "a", "hv1", &["10.0.1.10"]),
        port("neighbour", "a", "hv1", &["10.0.1.11"]),
        port("idle", "a", "hv1", &["10.0.1.14"]),
        port("sink", "a", "hv2", &["10.0.1.12"]),
        port("server", "a", "hv2", &["10.0.1.13"]),
    ];
    topology(&[Node::Hypervisor, Node::Hypervisor], networks, &ports)
});

/// Sends SYNs, each of another flow, as fast as the guest can; returns how many.
fn flood(sender: &FrameSender, end: &AtomicBool) -> u64 {
    let mut sent = 0;
    while !end.load(Ordering::Relaxed) {
        let ports = ((sent % 60_000) as u16 + 1_024, (sent / 60_000 % 60_000) as u16 + 1_024);
        let packet = syn((FLOODER.1, ports.0), (SINK.1, ports.1));
        // A full queue of the guest's own is no news.
        let _full = sender.send(&ethernet(FLOODER.0, SINK.0, IPV4, &packet), 1);
        sent += 1;
    }
    sent
}

#[test]
fn a_flood_of_syns_fills_only_the_quota_of_its_port() {
    let fabric = fabric_alone(&TOPOLOGY).unwrap();
    let guest = |name: &str| fabric.guest(name).expect("a guest");
    // The sink answers nothing: all of the flood stays half-open.
    guest("sink").netns().ip("addr flush dev eth0").unwrap();
    let _server = EchoServer::start(guest("server").netns(), PORT).unwrap();
    let to = SocketAddr::new(guest("server").ipv4().unwrap(), PORT);
    let neighbour = guest("neighbour").netns();
    let conversation = Conversation::start(neighbour, to).unwrap();
    let sender = FrameSender::new(guest("flooder").netns(), "eth0").unwrap();
    let end = AtomicBool::new(false);
    let (sent, made) = thread::scope(|scope| {
        let start = Instant::now();
        let flooding = scope.spawn(|| flood(&sender, &end));
        thread::sleep(BEFORE);
        let made = attempts(neighbour, to, PATIENCE, PAUSE, FLOOD - start.elapsed());
        end.store(true, Ordering::Relaxed);
        (flooding.join().expect("the flood ends"), made.expect("attempts"))
    });
    let refused = dropped(&fabric, "hv1", "flooder", "session_quota");
    println!("{sent} SYNs in {FLOOD:?}, {refused} over the quota; the neighbour: {made:?}");
    let talk = conversation.stop().unwrap();
    println!("its conversation: {talk:?}");
    assert!(refused > 0 && refused < sent, "{refused} of {sent}");
    assert!(talk.answered > 100 && talk.retransmits == 0, "{talk:?}");
    assert!(made.tried > 100 && made.succeeded * 1_000 >= made.tried * 999, "{made:?}{}", drops(&fabric));
    for node in ["hv1", "hv2"] {
        let rows = vpcctl_json(fabric.node(node).unwrap(), "drops").unwrap();
        let others: Vec<_> = rows
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["reason"] == "session_quota" && row["port"] != "flooder")
            .collect();
        assert!(others.is_empty(), "{others:#?}");
    }
}
