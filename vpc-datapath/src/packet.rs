//! What the pipeline may do to a packet.

use crate::{Part, Scratch, Stage, Tables, checksum, family::Family};
use bytemuck::Pod;
use vpc_common::{Be16, offload::Mark};

/// The kernel had no room, or the bytes are not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRoom;

/// Bytes that can be taken aside: the largest packet that is fragmented here.
pub const BUFFER: u32 = 16 * 1024;

/// Bytes that a variable offset may reach: [`Packet::get_at`] masks with it, for the verifier's sake.
pub const REACH: usize = 0x1ff;

/// A packet: an `__sk_buff`, an `xdp_md`, or bytes in a test. It starts with the Ethernet header.
pub trait Packet {
    /// Length of the whole frame, bytes, also of what is not directly accessible.
    fn length(&self) -> u32;
    /// Payload bytes of one segment of a GSO frame; 0 where the frame is what it seems.
    fn gso_size(&self) -> u32;
    /// Makes the segments of a GSO frame of TCP so many bytes smaller. If that is not possible the packet stays as it is.
    fn shrink_segments(&mut self, by: u32) -> Result<(), NoRoom>;
    /// Whether the kernel has cut its segments and filled its checksum in: see [`crate::offload`].
    fn is_finished(&self) -> bool;
    /// Marks it for the offload device, with the slot that it belongs to.
    fn mark(&mut self, mark: Mark);
    /// Whether the kernel holds a VLAN tag of the frame apart from its bytes.
    fn has_vlan_tag(&self) -> bool;
    /// A header at a constant offset.
    fn get<T: Pod>(&self, offset: usize) -> Option<&T>;
    /// A header at a constant offset, to be changed.
    fn get_mut<T: Pod>(&mut self, offset: usize) -> Option<&mut T>;
    /// A header at a variable offset below [`REACH`].
    fn get_at<T: Pod>(&self, offset: usize) -> Option<&T>;
    /// A header at a variable offset below [`REACH`], to be changed.
    fn get_at_mut<T: Pod>(&mut self, offset: usize) -> Option<&mut T>;
    /// Makes the first `length` bytes directly accessible, or as many as there are.
    fn pull(&mut self, length: u32);
    /// The ones' complement sum of a range, as [`crate::checksum::sum`] gives it; at most [`BUFFER`] bytes.
    fn sum(&mut self, offset: u32, length: u32) -> Result<u64, NoRoom>;
    /// Changes the checksum of TCP or UDP that stands at a constant offset, also one that its sender left to its interface.
    fn change_sum(&mut self, at: usize, change: SumChange) -> Result<(), NoRoom> {
        let sum = self.get_mut::<Be16>(at).ok_or(NoRoom)?;
        if change.zero == Zero::Absent && *sum == Be16::default() {
            return Ok(());
        }
        *sum = match change.covered {
            Covered::PseudoHeader => checksum::update_address(*sum, change.old, change.new),
            Covered::Segment => checksum::update(*sum, change.old as u16, change.new as u16),
        };
        if change.zero == Zero::Absent && *sum == Be16::default() {
            *sum = Be16::new(0xffff);
        }
        Ok(())
    }
    /// Copies a range into this CPU's buffer, at most [`BUFFER`] bytes.
    fn take_aside(&mut self, offset: u32, length: u32) -> Result<(), NoRoom>;
    /// Copies bytes `from..from + length` of what was taken aside to `offset`.
    fn put_back(&mut self, from: u32, offset: u32, length: u32) -> Result<(), NoRoom>;
    /// Takes the frame out of what it shares with the sender's copy, if it does. The kernel's tunnel device queues frames that
    /// are shared elsewhere than others (`gro_cells_receive`, Linux 6.18), where they overtake these.
    fn unshare(&mut self) {}
    /// Opens `overhead` bytes in front. They and the inner Ethernet header behind them are undefined: the caller writes
    /// both. GSO stays what it was.
    fn encapsulate(&mut self, overhead: u32) -> Result<(), NoRoom>;
    /// As [`Packet::encapsulate`], for a frame without segments that is resized afterwards.
    fn open_front(&mut self, overhead: u32) -> Result<(), NoRoom>;
    /// Removes `overhead` bytes in front. If that is not possible the packet stays as it is.
    fn decapsulate(&mut self, overhead: u32) -> Result<(), NoRoom>;
    /// Opens room between the Ethernet header and what follows it; all before the end of the room is undefined.
    fn insert_l3(&mut self, bytes: u32) -> Result<(), NoRoom>;
    /// Cuts or extends the frame. A GSO frame becomes an ordinary one.
    fn resize(&mut self, length: u32) -> Result<(), NoRoom>;
    /// Sends a copy as it stands now.
    fn send_copy(&mut self, target: CopyTarget);
    /// Runs a part of a pipeline. In the kernel parts are functions that the verifier checks by themselves.
    ///
    /// # Errors
    /// The end of the packet's way.
    #[inline(always)]
    fn part<F: Family, T: Tables>(&mut self, tables: &T, scratch: &mut Scratch, part: Part) -> Stage
    where
        Self: Sized,
    {
        part.run::<F, Self, T>(self, tables, scratch)
    }
    /// Runs `step` with 0, 1, … until it returns [`Repeat::Stop`], at most `times`.
    fn repeat<S: Step>(times: u32, step: &mut S);
}

/// A change of what a checksum of TCP or UDP covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SumChange {
    /// What stood there, as the CPU loads it: an address or, in the segment, a 16-bit word.
    pub old: u32,
    /// What stands there.
    pub new: u32,
    /// Where.
    pub covered: Covered,
    /// What a checksum of zero says.
    pub zero: Zero,
}

/// What of a checksum's coverage changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Covered {
    /// An address in the pseudo header.
    PseudoHeader,
    /// A word of the segment itself.
    Segment,
}

/// What a checksum of zero says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Zero {
    /// There is none (RFC 768): it stays so, and a sum that comes to zero is sent as 0xffff.
    Absent,
    /// It is a sum like any other.
    Value,
}

/// Where a copy goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyTarget {
    /// Out of an interface.
    Interface(u32),
}

/// Whether [`Packet::repeat`] goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repeat {
    /// With the next number.
    Next,
    /// No more.
    Stop,
}

/// The body of a loop whose length the verifier need not unroll.
///
/// A step may leave something in itself for after the loop, but no step may decide by what an earlier one has left there:
/// verifiers before Linux 6.7 look at one round only, take what began as a constant for that constant in every round, and
/// remove the branches that it rules out (seen on 6.1). What changes is asked of the packet or of a map.
pub trait Step {
    /// Round `index`.
    fn step(&mut self, index: u32) -> Repeat;
}
