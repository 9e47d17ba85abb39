//! How verdicts are counted: the rule that the kernel's adapters follow, written a second time.

use crate::outcome::{Counts, SlotCounts};
use vpc_common::{DropReason, counters::DirectionCounters, port::UNDERLAY_SLOT};
use vpc_datapath::{Scratch, Verdict, verdict::End};

/// Which way a frame went, seen from the workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    /// From the workload.
    Egress,
    /// To the workload.
    Ingress,
}

impl Counts {
    /// At a TC hook. A frame that reaches a port of this node counts as received and forwarded there too.
    pub(super) fn at_tc(&mut self, verdict: Verdict, direction: Direction, slot: u16, length: u32) -> End {
        let end = verdict.end();
        self.count(end, direction, slot, length);
        if let End::Deliver(target) = end
            && (direction == Direction::Egress || target != slot)
        {
            self.count(end, Direction::Ingress, target, length);
        }
        end
    }

    /// At the XDP hook of an uplink: bytes are those of the inner frame once a port is known.
    pub(super) fn at_xdp(
        &mut self,
        verdict: Verdict,
        scratch: &Scratch,
        length: u32,
        has_device: impl Fn(u16) -> bool,
    ) -> End {
        let slot = scratch.flow.slot;
        let length = if slot == UNDERLAY_SLOT { length } else { length - scratch.outer.overhead };
        let end = match verdict.end() {
            End::Deliver(target) if !has_device(target) => End::Drop(DropReason::PortDown),
            end => end,
        };
        self.count(end, Direction::Ingress, slot, length);
        end
    }

    fn count(&mut self, end: End, direction: Direction, slot: u16, length: u32) {
        let SlotCounts { counters, drops } = self.0.entry(slot).or_default();
        let counters: &mut DirectionCounters = match direction {
            Direction::Egress => &mut counters.egress,
            Direction::Ingress => &mut counters.ingress,
        };
        counters.received += 1;
        counters.received_bytes += u64::from(length);
        match end {
            End::Transmit(_) | End::Deliver(_) | End::Replicated => {
                counters.forwarded += 1;
                counters.forwarded_bytes += u64::from(length);
            }
            End::Offload(_) => {
                counters.received -= 1;
                counters.received_bytes -= u64::from(length);
            }
            End::Answer => counters.answered += 1,
            End::Punt => counters.punted += 1,
            End::Drop(reason) => {
                counters.dropped += 1;
                drops[reason as usize] += 1;
            }
        }
    }
}
