//! Sequences of frames through the host build of the pipelines: none panics, and each is counted once.
//!
//! A frame is either bytes of the input, or a packet of the case files with some bytes changed, which gets further in.

use crate::{
    case::{self, Case, Hook, Offload, Step},
    fabric::{Devices, Fabric},
    host::Host,
    packet,
    runner::{Arrival, Runner},
};
use std::sync::LazyLock;

/// Largest frame made of bytes of the input.
const LONGEST: usize = 2_048;
/// Frames of one input.
const MOST: usize = 16;

struct Bench {
    fabric: Fabric,
    devices: Devices,
    packets: Vec<Vec<u8>>,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let file = case::read(&case::directory().join("vxlan.yaml")).expect("a case file");
    let fabric = Fabric::new(&file).expect("a fabric");
    let devices = fabric.made_up_devices();
    let files = case::files().expect("case files");
    let steps = files.iter().flat_map(|(_, file)| &file.cases).flat_map(Case::steps);
    let sends = steps.filter_map(|step| if let Step::Send(send) = step { Some(send.packet) } else { None });
    // Names of other topologies mean nothing here.
    let packets = sends.filter_map(|layers| packet::serialise(&layers, &fabric).ok()).map(|packet| packet.bytes);
    let packets = packets.collect();
    Bench { fabric, devices, packets }
});

/// The input, from its front; zero behind its end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> usize {
        self.bytes(1).first().copied().unwrap_or_default().into()
    }

    fn number(&mut self) -> usize {
        self.byte() << 8 | self.byte()
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        front
    }

    fn frame(&mut self, packets: &[Vec<u8>]) -> Vec<u8> {
        let kind = self.byte();
        if kind == 0 {
            let length = self.number() % LONGEST;
            return self.bytes(length).to_vec();
        }
        let mut frame = packets[self.number() % packets.len()].clone();
        for _ in 0..kind % 8 {
            let (at, value) = (self.number(), self.byte() as u8);
            let length = frame.len().max(1);
            if let Some(byte) = frame.get_mut(at % length) {
                *byte = value;
            }
        }
        if kind > 224 {
            frame.truncate(self.number() % LONGEST);
        }
        frame
    }
}

/// Runs the frames of an input.
///
/// # Panics
/// What must not be is.
pub fn run(data: &[u8]) {
    let bench = &*BENCH;
    let mut host = Host::default();
    host.start(&bench.fabric.state(&bench.devices).expect("a state")).expect("a host");
    let ifindex = bench.devices.index("tap-web1").expect("a port");
    let mut input = Input(data);
    for _ in 0..MOST {
        if input.0.is_empty() {
            break;
        }
        let choice = input.byte();
        let hook = [Hook::Port, Hook::UplinkXdp, Hook::UplinkTc][choice % 3];
        let gso_size = if choice & 0x80 == 0 { 0 } else { input.number() as u32 };
        let bytes = &input.frame(&bench.packets);
        let arrival = Arrival { hook, ifindex, mark: 0, bytes, gso_size, offload: Offload::None, copies: 0 };
        host.run(&arrival).expect("the host runs every frame");
    }
    for (slot, counts) in &host.counts().expect("counters").0 {
        assert!(counts.balance(), "slot {slot}: {counts:?}");
    }
}
