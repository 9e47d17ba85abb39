//! The host build of the packet code, over bytes and ordered maps.

mod counting;
mod frame;
mod metered;
mod offload;
mod tables;

pub use frame::Frame;
pub use tables::{HostTables, Reuse};

use crate::{
    accesses::Accesses,
    case::{Bucket, Hook, Led},
    outcome::{Counts, Outcome, Seen, Sessions},
    runner::{Arrival, Runner, Told},
    state::State,
};
use anyhow::{Context, Result};
use counting::Direction;
use metered::Metered;
use std::collections::BTreeMap;
use vpc_common::{
    DropReason, Ip, Vni,
    locate::LocateKey,
    nat::{ExternalPort, NatIn},
    offload::Mark,
    port::{UNDERLAY_SLOT, flags},
};
use vpc_datapath::{
    Packet, Scratch, Tables, Verdict, deliver, egress, external, ingress, scratch::Outer, shortcut, verdict::End,
};

/// What scratch memory holds before each packet: nothing may be read that was not written for it.
const POISON: u8 = 0xaa;

/// The host build.
#[derive(Debug, Default)]
pub struct Host {
    tables: Metered,
    counts: Counts,
}

impl Host {
    /// The tables.
    pub fn tables(&self) -> &HostTables {
        self.tables.tables()
    }

    /// Gives the elements of sessions to other flows from now on.
    pub fn reuse(&mut self, when: Reuse) {
        self.tables.tables_mut().reuse(when);
    }

    /// What the last packet asked of the maps. What the kernel's adapters need besides (scratch memory, counters, the
    /// interface of a verdict) is not in it: arrays all of them, whatever the packet.
    pub fn accesses(&self) -> Accesses {
        self.tables.accesses()
    }

    fn port(&mut self, frame: &mut Frame, scratch: &mut Scratch, ifindex: u32) -> End {
        let length = frame.bytes().len() as u32;
        let (slot, end) = match deliver::locate(&self.tables, LocateKey::interface(ifindex)) {
            None => (UNDERLAY_SLOT, DropReason::UnknownPort.into()),
            Some(slot) => match self.tables.port(slot) {
                Some(port) if port.epoch != 0 => (slot, egress::egress(frame, &self.tables, scratch, slot, port)),
                _ => (slot, DropReason::UnknownPort.into()),
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
        self.counts.at_xdp(end, scratch, length, |slot| self.tables.tables().has_device(slot))
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

    fn offload(&mut self, frame: &mut Frame, scratch: &mut Scratch, mark: u32) -> End {
        let length = frame.bytes().len() as u32;
        let (end, direction, slot) = match Mark::slot(mark) {
            None => (DropReason::OffloadStray.into(), Direction::Ingress, UNDERLAY_SLOT),
            Some(UNDERLAY_SLOT) => {
                let end = match external::external(frame, &self.tables, scratch) {
                    end if end == Verdict::punt() => DropReason::OffloadStray.into(),
                    end => end,
                };
                (end, Direction::Ingress, scratch.flow.slot)
            }
            Some(slot) => match self.tables.port(slot) {
                Some(port) if port.epoch != 0 => {
                    let end = egress::egress(frame, &self.tables, scratch, slot, port);
                    let is_router = port.flags & flags::ROUTER != 0;
                    (end, if is_router { Direction::Ingress } else { Direction::Egress }, slot)
                }
                _ => (DropReason::UnknownPort.into(), Direction::Egress, slot),
            },
        };
        self.counts.at_tc(end, direction, slot, length)
    }

    /// A packet that was sent into the offload device, up to its end. The last segment's end stands for all of them.
    fn finished(&mut self, sent: &Frame, scratch: &mut Scratch) -> (End, Frame) {
        let mut last = (End::Replicated, Frame::default());
        let mut copies = BTreeMap::<u32, Vec<Vec<u8>>>::new();
        for segment in offload::finish(sent.bytes(), sent.gso_size()) {
            bytemuck::bytes_of_mut(scratch).fill(POISON);
            let mut frame = Frame::finished(segment);
            let end = self.offload(&mut frame, scratch, sent.mark());
            for (index, frames) in frame.take_copies() {
                copies.entry(index).or_default().extend(frames);
            }
            last = (end, frame);
        }
        last.1.put_copies(copies);
        last
    }

    /// Through the offload device, if that is where the packet was sent.
    fn past_offload(&mut self, end: End, frame: &mut Frame, scratch: &mut Scratch) -> End {
        let End::Offload(_) = end else { return end };
        let (end, last) = self.finished(frame, scratch);
        *frame = last;
        end
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
        *self = Self { tables: Metered::new(HostTables::new(state)), counts: Counts::default() };
        Ok(())
    }

    fn change(&mut self, state: &State) -> Result<()> {
        self.tables.tables_mut().change(state);
        Ok(())
    }

    fn run(&mut self, arrival: &Arrival<'_>) -> Result<Outcome> {
        self.tables.forget();
        let mut frame = Frame::new(arrival.bytes, arrival.gso_size);
        let mut scratch: Scratch = bytemuck::Zeroable::zeroed();
        bytemuck::bytes_of_mut(&mut scratch).fill(POISON);
        let end = match arrival.hook {
            Hook::Port => self.port(&mut frame, &mut scratch, arrival.ifindex),
            Hook::Wire => {
                frame.take_vlan_tag();
                let end = self.port(&mut frame, &mut scratch, arrival.ifindex);
                self.past_offload(end, &mut frame, &mut scratch)
            }
            Hook::Offload => {
                frame = Frame::finished(arrival.bytes.to_vec());
                self.offload(&mut frame, &mut scratch, arrival.mark)
            }
            Hook::PortXdp => self.port_xdp(&mut frame, &mut scratch, arrival.ifindex),
            Hook::UplinkXdp => self.uplink_xdp(&mut frame, &mut scratch),
            Hook::UplinkTc => self.uplink_tc(&mut frame, &mut scratch),
            Hook::External => self.external(&mut frame, &mut scratch),
            Hook::Tunnel => match self.uplink_tc(&mut frame, &mut scratch) {
                End::Punt => {
                    bytemuck::bytes_of_mut(&mut scratch).fill(POISON);
                    let end = self.tunnel(&mut frame, &mut scratch)?;
                    self.past_offload(end, &mut frame, &mut scratch)
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
        self.tables.tables_mut().wait(milliseconds);
        Ok(())
    }

    fn exhaust(&mut self, slot: u16, bucket: Bucket) -> Result<()> {
        self.tables.tables().exhaust(slot, bucket);
        Ok(())
    }

    fn map(&mut self, key: &ExternalPort, mapping: &NatIn, led: Led) -> Result<()> {
        self.tables.tables().map(key, mapping, led);
        Ok(())
    }

    fn counts(&self) -> Result<Counts> {
        Ok(self.counts.clone())
    }

    fn sessions(&self) -> Result<Sessions> {
        Ok(self.tables.tables().sessions())
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
