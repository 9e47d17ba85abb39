//! Ten thousand single changes a second: how long each takes from the moment in which it is made until packets find it.
//!
//! A controller keeps the topology. Every 100 µs it gives another port a new MAC, and as often as it can it writes the
//! whole file and renames it into place. A change counts from the moment in which the controller makes it; it is
//! effective when the map of endpoints says so, or something newer about the same port.

use super::hypervisor::Hypervisor;
use crate::{
    Effort,
    noise::Noise,
    report::{Figure, Report, Target},
    samples::Samples,
};
use anyhow::{Result, ensure};
use std::{
    collections::VecDeque,
    fmt::Write as _,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use vpc_bpf::Table;
use vpc_common::{
    Be32, Ip, Mac, Vni,
    endpoint::{Endpoint, EndpointKey},
    maps,
};

const PORTS: u32 = 10_000;
const NODES: u32 = 100;
const VNI: u32 = 5_001;
const VTEP: &str = "192.0.2.1";
/// Changes a second.
const RATE: u32 = 10_000;
/// One change of so many is followed.
const FOLLOWED: u32 = 20;
/// First octet of the MAC of a port that was never changed.
const UNCHANGED: u8 = 6;
/// How long the last change may take.
const LIMIT: Duration = Duration::from_secs(10);
/// ms until 99 of 100 changes are effective.
const TARGET: f64 = 1_000.0;

/// A change that is followed.
#[derive(Clone, Copy)]
struct Change {
    port: u32,
    number: u32,
    made: Instant,
}

/// Measures into `report`.
pub(super) fn run(effort: Effort, report: &mut Report) -> Result<()> {
    let seconds = if effort == Effort::Quick { 10 } else { 60 };
    let mut node = Hypervisor::new(VTEP)?;
    let mut controller = Controller::new();
    node.write(&controller.text())?;
    node.start(&[])?;
    let endpoints = node.table(maps::ENDPOINTS)?;
    let (follow, followed) = mpsc::channel();
    let noise = Noise::start();
    let observer = thread::spawn(move || observe(&endpoints, &followed));
    let start = Instant::now();
    let (mut made, mut written) = (0, 0_u32);
    while made < RATE * seconds {
        let due = (start.elapsed().as_secs_f64() * f64::from(RATE)) as u32;
        for number in made + 1..=due.min(RATE * seconds) {
            let port = controller.change(number);
            if number % FOLLOWED == 0 {
                // The observer ends only after this end of the channel.
                let _followed =
                    follow.send(Change { port, number, made: start + Duration::from_secs(1) * number / RATE });
            }
        }
        made = due.max(made);
        node.write(&controller.text())?;
        written += 1;
    }
    let lasted = start.elapsed();
    drop(follow);
    let mut latencies = observer.join().map_err(|_| anyhow::anyhow!("the observer panicked"))??;
    let foreign = noise.cores();
    latencies.sort_by(f64::total_cmp);
    let at = |per_mille: usize| {
        let mut one = Samples::default();
        one.push(latencies.get(latencies.len() * per_mille / 1_000).copied().unwrap_or(f64::NAN));
        one
    };
    let group = format!("Control, {RATE} single changes a second for {seconds} s, {PORTS} ports, {NODES} nodes");
    let applied = node.applied()?.len();
    let note = format!(
        "{} changes in {:.1} s, the file renamed {written} times, applied {applied} times",
        made.min(RATE * seconds),
        lasted.as_secs_f64()
    );
    let mut add = |name: &str, samples: &Samples, target, note: &str| {
        report.add(Figure::new(&group, name, "ms", samples).foreign(foreign).target(target).note(note));
    };
    add("from a change to the maps, p50", &at(500), None, "");
    add("from a change to the maps, p99", &at(990), Some(Target::AtMost(TARGET)), &note);
    add("from a change to the maps, p99.9", &at(999), None, "");
    Ok(())
}

/// Follows changes until they are effective; returns how long each took, in ms.
fn observe(endpoints: &Table<EndpointKey, Endpoint>, followed: &mpsc::Receiver<Change>) -> Result<Vec<f64>> {
    let (mut waiting, mut latencies) = (VecDeque::<Change>::new(), Vec::new());
    let mut all_made = false;
    let mut last_made = Instant::now();
    while !all_made || !waiting.is_empty() {
        loop {
            match followed.try_recv() {
                Ok(change) => waiting.push_back(change),
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => {
                    all_made = true;
                    break;
                }
            }
        }
        if !all_made {
            last_made = Instant::now();
        }
        ensure!(last_made.elapsed() < LIMIT, "{} changes are not effective after {LIMIT:?}", waiting.len());
        // Changes come into force in the order in which they were made.
        while let Some(change) = waiting.front().copied() {
            let key = EndpointKey { vpc: Vni(VNI), address: Ip::v4(Be32::new(address(change.port))) };
            let known = endpoints.get(&key)?.map_or(0, |endpoint| number_of(endpoint.mac));
            if known < change.number {
                break;
            }
            latencies.push(change.made.elapsed().as_secs_f64() * 1e3);
            waiting.pop_front();
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(latencies)
}

/// Who writes the topology: the number of the last change of each port, which is in its MAC.
struct Controller {
    numbers: Vec<u32>,
}

impl Controller {
    fn new() -> Self {
        Self { numbers: vec![0; PORTS as usize] }
    }

    /// Makes a change of one port, which is returned. All of them get their turn, far from each other.
    fn change(&mut self, number: u32) -> u32 {
        let port = number.wrapping_mul(7_919) % PORTS;
        self.numbers[port as usize] = number;
        port
    }

    fn text(&self) -> String {
        let mut text = String::with_capacity(self.numbers.len() * 140);
        let mut line = |arguments: std::fmt::Arguments<'_>| {
            // Writing to a String cannot fail.
            let _written = writeln!(text, "{arguments}");
        };
        line(format_args!("version: 1\nnodes:"));
        for node in 1..=NODES {
            line(format_args!("  - {{name: hv{node}, id: {node}, vtep: 192.0.2.{node}, uplink: eth1}}"));
        }
        line(format_args!("vpcs:\n  - {{name: prod, vni: {VNI}, cidr_blocks: [10.0.0.0/8]}}"));
        line(format_args!("subnets:\n  - {{name: all, vpc: prod, cidr_blocks: [10.0.0.0/8]}}\nports:"));
        for (port, number) in self.numbers.iter().enumerate() {
            let (node, [a, b, c, d]) = (port as u32 % NODES + 1, number.to_be_bytes());
            let [_, x, y, z] = address(port as u32).to_be_bytes();
            // A port that was never changed has its place instead, which no change is mistaken for.
            let [e, f] = (port as u16).to_be_bytes();
            let mac = Mac::new(if *number == 0 { [UNCHANGED, 0, 0, 0, e, f] } else { [2, a, b, c, d, 0] });
            line(format_args!(
                "  - {{name: port-{port}, subnet: all, node: hv{node}, device: tap-{port}, mac: \"{mac}\", \
                 private_ips: [10.{x}.{y}.{z}]}}"
            ));
        }
        text
    }
}

fn address(port: u32) -> u32 {
    0x0a01_0000 + port
}

/// The number of the change that gave a port its MAC.
fn number_of(mac: Mac) -> u32 {
    match mac.octets() {
        [UNCHANGED, ..] => 0,
        [_, a, b, c, d, _] => u32::from_be_bytes([a, b, c, d]),
    }
}
