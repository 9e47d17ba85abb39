//! The host build of the packet code, over bytes and ordered maps.

mod counting;
mod frame;
mod tables;

pub use frame::Frame;
pub use tables::HostTables;

use crate::{
    case::{Bucket, Hook},
    outcome::{Counts, Outcome, Seen, Sessions},
    runner::{Arrival, Runner, Told},
    state::State,
};
use anyhow::{Context, Result};
use counting::Direction;
use vpc_common::{
    Ip, Vni,
    locate::LocateKey,
    nat::{ExternalPort, NatIn},
    port::UNDERLAY_SLOT,
};
use vpc_datapath::{
    Scratch, Tables, Verdict, deliver, egress, external, ingress, scratch::Outer, shortcut, verdict::End,
};

/// What scratch memory holds before each packet: nothing may be read that was not written for it.
const POISON: u8 = 0xaa;

/// The host build.
#[derive(Debug, Default)]
pub struct Host {
    tables: HostTables,
    counts: Counts,
}

impl Host {
    /// The tables.
    pub fn tables(&self) -> &HostTables {
        &self.tables
    }

    fn port(&mut self, frame: &mut Frame, scratch: &mut Scratch, ifindex: u32) -> End {
        let length = frame.bytes().len() as u32;
        let (slot, end) = match deliver::locate(&self.tables, LocateKey::interface(ifindex)) {
            None => (UNDERLAY_SLOT, vpc_common::DropReason::UnknownPort.into()),
            Some(slot) => match self.tables.port(slot) {
                Some(port) if port.epoch != 0 => (slot, egress::egress(frame, &self.tables, scratch, slot, port)),
                _ => (slot, vpc_common::DropReason::UnknownPort.into()),
            },
        };
        self.counts.at_tc(end, Direction::Egress, slot, length)
    }

    /// What takes the long way is not counted: the program at TC does.
    fn port_xdp(&mut self, frame: &mut Frame, scratch: &mut Scratch, ifindex: u32) -> End {
        let length = frame.bytes().len() as u32;
        let Some(slot) = deliver::locate(&self.tables, LocateKey::interface(ifindex)) else { return End::Punt };
        let end = match self.tables.port(slot) {
            Some(port) if port.epoch != 0 => shortcut::shortcut(frame, &self.tables, scratch, slot, port),
            _ => Verdict::punt(),
        };
        if end == Verdict::punt() { End::Punt } else { self.counts.at_tc(end, Direction::Egress, slot, length) }
    }

    fn uplink_xdp(&mut self, frame: &mut Frame, scratch: &mut Scratch) -> End {
        let length = frame.bytes().len() as u32;
        let end: Verdict = ingress::uplink(frame, &self.tables, scratch);
        self.counts.at_xdp(end, scratch, length, |slot| self.tables.has_device(slot))
    }

    fn uplink_tc(&mut self, frame: &mut Frame, scratch: &mut Scratch) -> End {
        let end = ingress::uplink_tc(frame, &self.tables, scratch);
        let length = frame.bytes().len() as u32;
        self.counts.at_tc(end, Direction::Ingress, scratch.flow.slot, length)
    }

    fn external(&mut self, frame: &mut Frame, scratch: &mut Scratch) -> End {
        let length = frame.bytes().len() as u32;
        let end = external::external(frame, &self.tables, scratch);
        self.counts.at_tc(end, Direction::Ingress, scratch.flow.slot, length)
    }

    fn tunnel(&mut self, frame: &mut Frame, scratch: &mut Scratch) -> Result<End> {
        let told = told(frame.bytes()).context("the packet of a tunnel hook starts with outer headers")?;
        frame.cut_front(told.length);
        frame.take_vlan_tag();
        scratch.outer = Outer { source: told.source, vni: Vni(told.vni), overhead: 0, tos: told.tos, reserved: [0; 3] };
        let length = frame.bytes().len() as u32;
        let end = ingress::tunnel(frame, &self.tables, scratch);
        Ok(self.counts.at_tc(end, Direction::Ingress, scratch.flow.slot, length))
    }
}

impl Runner for Host {
    fn start(&mut self, state: &State) -> Result<()> {
        *self = Self { tables: HostTables::new(state), counts: Counts::default() };
        Ok(())
    }

    fn change(&mut self, state: &State) -> Result<()> {
        self.tables.change(state);
        Ok(())
    }

    fn run(&mut self, arrival: &Arrival<'_>) -> Result<Outcome> {
        let mut frame = Frame::new(arrival.bytes, arrival.gso_size);
        let mut scratch: Scratch = bytemuck::Zeroable::zeroed();
        bytemuck::bytes_of_mut(&mut scratch).fill(POISON);
        let end = match arrival.hook {
            Hook::Port => self.port(&mut frame, &mut scratch, arrival.ifindex),
            Hook::Wire => {
                frame.take_vlan_tag();
                self.port(&mut frame, &mut scratch, arrival.ifindex)
            }
            Hook::PortXdp => self.port_xdp(&mut frame, &mut scratch, arrival.ifindex),
            Hook::UplinkXdp => self.uplink_xdp(&mut frame, &mut scratch),
            Hook::UplinkTc => self.uplink_tc(&mut frame, &mut scratch),
            Hook::External => self.external(&mut frame, &mut scratch),
            Hook::Tunnel => match self.uplink_tc(&mut frame, &mut scratch) {
                End::Punt => {
                    bytemuck::bytes_of_mut(&mut scratch).fill(POISON);
                    self.tunnel(&mut frame, &mut scratch)?
                }
                end => end,
            },
        };
        let copies = frame.take_copies();
        let gone = matches!(end, End::Drop(_) | End::Replicated);
        let packet = (!gone).then(|| frame.bytes().to_vec());
        Ok(Outcome { verdict: Seen::Whole(end), packet, copies })
    }

    fn wait(&mut self, milliseconds: u64) -> Result<()> {
        self.tables.wait(milliseconds);
        Ok(())
    }

    fn exhaust(&mut self, slot: u16, bucket: Bucket) -> Result<()> {
        self.tables.exhaust(slot, bucket);
        Ok(())
    }

    fn map(&mut self, key: &ExternalPort, mapping: &NatIn) -> Result<()> {
        self.tables.map(key, mapping);
        Ok(())
    }

    fn counts(&self) -> Result<Counts> {
        Ok(self.counts.clone())
    }

    fn sessions(&self) -> Result<Sessions> {
        Ok(self.tables.sessions())
    }
}

/// What the tunnel device would tell of the outer headers; none where they are none.
pub fn told(bytes: &[u8]) -> Option<Told> {
    let (source, tos, l4) = match bytes.get(12..14)? {
        [0x08, 0x00] => {
            let source: [u8; 4] = bytes.get(26..30)?.try_into().ok()?;
            (Ip::from(std::net::IpAddr::from(source)), *bytes.get(15)?, 34)
        }
        [0x86, 0xdd] => {
            let source: [u8; 16] = bytes.get(22..38)?.try_into().ok()?;
            (Ip::from_bytes(source), *bytes.get(14)? << 4 | *bytes.get(15)? >> 4, 54)
        }
        _ => return None,
    };
    let vni = bytes.get(l4 + 12..l4 + 16)?;
    let vni = u32::from_be_bytes([0, vni[0], vni[1], vni[2]]);
    Some(Told { source, vni, tos, length: l4 + 16 })
}
