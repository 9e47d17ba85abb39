//! The time in which sessions and NAT mappings are told.

use crate::Tables;
use bytemuck::{Pod, Zeroable};
use vpc_common::session::TICK_SHIFT;

/// The clock as this CPU has read it last. It outlives the packet.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable, Default)]
pub struct Clock {
    /// [`Tables::jiffies`] at that moment.
    jiffies: u64,
    /// The time in ticks: see [`TICK_SHIFT`].
    tick: u16,
    reserved: [u16; 3],
}

/// The present, in ticks; a jiffy old at most. To read the clock takes a call, to see that it has not moved on a load: the
/// kernel sets both at each of its timer's interrupts, first the jiffies.
#[inline(always)]
pub fn tick<T: Tables>(tables: &T, clock: &mut Clock) -> u16 {
    let jiffies = tables.jiffies();
    if clock.jiffies != jiffies {
        *clock = Clock { jiffies, tick: (tables.now_coarse() >> TICK_SHIFT) as u16, reserved: [0; 3] };
    }
    clock.tick
}
