//! Session tables that grow while packets go on.

use anyhow::{Result, ensure};
use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};
use vpc_lab::{
    Fabric, Lab, UnderlayOptions,
    agent::vpcctl_json,
    crowd::Crowd,
    tcp::{EchoServer, attempts},
    wait::eventually,
};
use vpc_netns_tests::{TOPOLOGY, drops};

/// Of the four ports of hv1 each may have 1,024 of these.
const AT_START: u64 = 4_096;
const MOST: u64 = 32_768;
const MOST_MAPPINGS: u64 = 8_192;
/// Not yet half of that; then more than half.
const CONNECTIONS: usize = 400;
const MORE: usize = 200;
/// Connections are made one after the other all the while, fewer than the port may have at first.
const PATIENCE: Duration = Duration::from_millis(900);
const PAUSE: Duration = Duration::from_millis(20);
const WHILE: Duration = Duration::from_secs(8);
/// All programs are verified anew, beside everything else that runs here.
const UNTIL_GROWN: Duration = Duration::from_secs(7);
/// How long everything goes on after that at least: each connection says something every 200 ms.
const AFTERWARDS: Duration = Duration::from_secs(1);

fn fabric() -> Result<Fabric> {
    let mut fabric = Fabric::build(Lab::alone()?, TOPOLOGY, UnderlayOptions::default())?;
    let [at_start, most, mappings] = [AT_START, MOST, MOST_MAPPINGS].map(|number| number.to_string());
    fabric.start_agents_with(&["--sessions-at-start", &at_start, "--sessions", &most, "--nat-mappings", &mappings])?;
    Ok(fabric)
}

/// For how many sessions and NAT mappings there is room on hv1.
fn room(fabric: &Fabric) -> Result<[u64; 2]> {
    let status = vpcctl_json(fabric.node("hv1")?, "status")?;
    let entries = |name| status["maps"].as_array()?.iter().find(|map| map["name"] == name)?["max_entries"].as_u64();
    let of = |name| entries(name).ok_or_else(|| anyhow::anyhow!("no {name} in {status}"));
    Ok([of("SESSIONS_V4")?, of("NAT_OUT")?])
}

#[test]
fn session_tables_grow_under_traffic_and_nobody_notices() {
    let fabric = fabric().unwrap();
    let guest = |name: &str| fabric.guest(name).expect("a guest");
    let to = |name: &str, port| SocketAddr::new(guest(name).ipv4().expect("an address"), port);
    let (crowd_at, more_at) = (to("a2", 8_080), to("a2", 8_081));
    let (a1, a2) = (guest("a1").netns(), guest("a2").netns());
    let crowd = Crowd::start(a1, a2, (crowd_at, crowd_at), CONNECTIONS).unwrap();
    let _server = EchoServer::start(guest("b1").netns(), 80).unwrap();
    thread::sleep(Duration::from_secs(2));
    assert_eq!(room(&fabric).unwrap(), [AT_START; 2], "half of a port's share is not in use");

    let (made, more, since) = thread::scope(|scope| {
        let (b2, b1) = (guest("b2").netns(), to("b1", 80));
        let making = scope.spawn(move || attempts(b2, b1, PATIENCE, PAUSE, WHILE));
        let more = Crowd::start(a1, a2, (more_at, more_at), MORE).unwrap();
        let grown = || ensure_room(&fabric, [MOST, MOST_MAPPINGS]);
        eventually(UNTIL_GROWN, grown).unwrap();
        let since = Instant::now();
        thread::sleep(AFTERWARDS);
        (making.join().expect("attempts end").unwrap(), more, since)
    });
    println!("connections made meanwhile: {made:?}");
    assert!(made.tried > 100 && made.succeeded == made.tried, "{made:?}{}", drops(&fabric));
    for crowd in [crowd, more] {
        let gathering = crowd.stop(since).unwrap();
        println!("{gathering:?}");
        assert!(gathering.broken == 0 && gathering.silent == 0, "{gathering:?}{}", drops(&fabric));
        assert!(gathering.longest_wait < PATIENCE, "{gathering:?}");
    }
    let status = vpcctl_json(fabric.node("hv1").unwrap(), "status").unwrap();
    assert_eq!(status["problems"], serde_json::json!([]));
}

fn ensure_room(fabric: &Fabric, wanted: [u64; 2]) -> Result<()> {
    let room = room(fabric)?;
    ensure!(room == wanted, "room for {room:?} sessions and mappings");
    Ok(())
}
