//! Verdicts carried out and counted: once per packet, at its only exit.

use crate::{maps, opaque::opaque, tables::Maps};
use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
    helpers,
};
use vpc_common::{
    DropReason,
    counters::DirectionCounters,
    drop::DROP_REASONS,
    port::{UNDERLAY_SLOT, flags},
};
use vpc_datapath::{Tables, Verdict, verdict::End};

/// Which way a frame went, seen from the workload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the workload.
    Egress,
    /// To the workload.
    Ingress,
}

/// The scratch map always has its element; the verifier wants to hear what happens otherwise.
pub const NO_SCRATCH: i32 = TC_ACT_SHOT;
/// The same for XDP.
pub const NO_SCRATCH_XDP: u32 = xdp_action::XDP_ABORTED;

/// Carries out a verdict at a TC hook. `back` is the interface that an answer leaves by.
#[inline(always)]
pub fn tc(verdict: Verdict, direction: Direction, slot: u16, length: u32, back: u32) -> i32 {
    let mut counters = counters(direction, slot);
    receive(counters.as_deref_mut(), length);
    match verdict.end() {
        End::Transmit(ifindex) => {
            forward(counters, length);
            redirect(ifindex)
        }
        End::Deliver(target) => {
            let Some(port) = Maps.port(target) else { return TC_ACT_SHOT };
            forward(counters, length);
            // What a port's own program forwards to another port, or the router to a port, reaches that port too.
            if direction == Direction::Egress || target != slot {
                let mut neighbour = self::counters(Direction::Ingress, target);
                receive(neighbour.as_deref_mut(), length);
                forward(neighbour, length);
            }
            if port.flags & flags::PEER_DELIVERY != 0 {
                // SAFETY: a helper without memory arguments.
                unsafe { helpers::bpf_redirect_peer(port.ifindex, 0) as i32 }
            } else {
                redirect(port.ifindex)
            }
        }
        End::Answer => {
            if let Some(c) = counters {
                c.answered += 1;
            }
            redirect(back)
        }
        End::Punt => {
            if let Some(c) = counters {
                c.punted += 1;
            }
            // Not OK, which would hide the frame from the programs of others behind this one.
            TC_ACT_UNSPEC
        }
        End::Replicated => {
            forward(counters, length);
            TC_ACT_SHOT
        }
        End::Offload(ifindex) => {
            take_back(counters, length);
            redirect(ifindex)
        }
        End::Drop(reason) => {
            drop(counters, slot, reason);
            TC_ACT_SHOT
        }
    }
}

/// Carries out a verdict at the XDP hook of an uplink, or of a port. `back` is its index.
#[inline(always)]
pub fn xdp(verdict: Verdict, direction: Direction, slot: u16, length: u32, back: u32) -> u32 {
    let mut counters = counters(direction, slot);
    receive(counters.as_deref_mut(), length);
    match verdict.end() {
        End::Deliver(target) => match maps::PORT_DEVICES.redirect(target as u32, xdp_action::XDP_DROP as u64) {
            Ok(action) => {
                forward(counters, length);
                action
            }
            Err(action) => {
                drop(counters, slot, DropReason::PortDown);
                action
            }
        },
        End::Punt => {
            if let Some(c) = counters {
                c.punted += 1;
            }
            xdp_action::XDP_PASS
        }
        End::Drop(reason) => {
            drop(counters, slot, reason);
            xdp_action::XDP_DROP
        }
        // Once a port is known the outer headers are gone: only what belongs to none can go back as it is.
        End::Answer if slot == UNDERLAY_SLOT => {
            if let Some(c) = counters {
                c.answered += 1;
            }
            // Not XDP_TX: a veth queues such a frame and wakes its peer only if that has an XDP program too, GRO alone is not
            // enough (`veth_xdp_flush`, Linux 6.18). A redirection wakes it.
            redirect(back) as u32
        }
        End::Transmit(ifindex) if direction == Direction::Egress => {
            forward(counters, length);
            redirect(ifindex) as u32
        }
        End::Transmit(_) | End::Answer | End::Replicated | End::Offload(_) => {
            drop(counters, slot, DropReason::NoRoom);
            xdp_action::XDP_DROP
        }
    }
}

#[inline(always)]
fn redirect(ifindex: u32) -> i32 {
    // SAFETY: a helper without memory arguments.
    unsafe { helpers::bpf_redirect(ifindex, 0) as i32 }
}

#[inline(always)]
fn counters(direction: Direction, slot: u16) -> Option<&'static mut DirectionCounters> {
    // SAFETY: a per-CPU value that only the running program changes.
    let counters = maps::COUNTERS.get_ptr_mut(slot as u32).map(|c| unsafe { &mut *c })?;
    Some(match direction {
        Direction::Egress => &mut counters.egress,
        Direction::Ingress => &mut counters.ingress,
    })
}

#[inline(always)]
fn receive(counters: Option<&mut DirectionCounters>, length: u32) {
    if let Some(c) = counters {
        c.received += 1;
        c.received_bytes += length as u64;
    }
}

/// The inverse of [`receive`]: what every other packet would pay for a question, this one pays alone.
#[inline(always)]
fn take_back(counters: Option<&mut DirectionCounters>, length: u32) {
    if let Some(c) = counters {
        c.received -= 1;
        c.received_bytes -= length as u64;
    }
}

#[inline(always)]
fn forward(counters: Option<&mut DirectionCounters>, length: u32) {
    if let Some(c) = counters {
        c.forwarded += 1;
        c.forwarded_bytes += length as u64;
    }
}

#[inline(always)]
fn drop(counters: Option<&mut DirectionCounters>, slot: u16, reason: DropReason) {
    if let Some(c) = counters {
        c.dropped += 1;
    }
    if let Some(drops) = maps::DROPS.get_ptr_mut(slot as u32) {
        // The compiler knows what the mask does and would leave it out; the verifier does not.
        let index = opaque(reason as usize) & (DROP_REASONS - 1);
        // SAFETY: as in `counters`; the mask keeps the index inside.
        unsafe { (*drops).0[index] += 1 };
    }
}
