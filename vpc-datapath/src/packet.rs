//! What the pipeline may do to a packet.

use bytemuck::Pod;

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
    /// Copies a range into this CPU's buffer, at most [`BUFFER`] bytes.
    fn take_aside(&mut self, offset: u32, length: u32) -> Result<(), NoRoom>;
    /// Copies bytes `from..from + length` of what was taken aside to `offset`.
    fn put_back(&mut self, from: u32, offset: u32, length: u32) -> Result<(), NoRoom>;
    /// Opens `overhead` bytes in front. They and the inner Ethernet header behind them are undefined: the caller writes
    /// both. GSO stays what it was.
    fn encapsulate(&mut self, overhead: u32) -> Result<(), NoRoom>;
    /// As [`Packet::encapsulate`], for a frame without segments that is resized afterwards.
    fn open_front(&mut self, overhead: u32) -> Result<(), NoRoom>;
    /// Removes `overhead` bytes in front.
    fn decapsulate(&mut self, overhead: u32) -> Result<(), NoRoom>;
    /// Opens room between the Ethernet header and what follows it; all before the end of the room is undefined.
    fn insert_l3(&mut self, bytes: u32) -> Result<(), NoRoom>;
    /// Cuts or extends the frame. A GSO frame becomes an ordinary one.
    fn resize(&mut self, length: u32) -> Result<(), NoRoom>;
    /// Sends a copy as it stands now.
    fn send_copy(&mut self, target: CopyTarget);
    /// Runs `step` with 0, 1, … until it returns [`Repeat::Stop`], at most `times`.
    fn repeat<S: Step>(times: u32, step: &mut S);
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
