//! `xdp_md` as `vpc_datapath::Packet`, and the XDP entry points.

use crate::{
    buffer, parts, repeat, tables,
    tables::Maps,
    verdict,
    window::{Window, variable},
};
use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    helpers,
};
use bytemuck::Pod;
use vpc_common::{
    locate::LocateKey,
    offload::Mark,
    wire::{Ethernet, Ipv4, Ipv6, ether_type},
};
use vpc_datapath::{
    Packet, Part, Scratch, Stage, Tables, Verdict, deliver,
    family::Family,
    ingress,
    packet::{CopyTarget, NoRoom, Step},
    shortcut,
};

const ETHERNET: usize = size_of::<Ethernet>();

/// A frame at the XDP hook.
pub struct Frame {
    context: *mut xdp_md,
    /// Bytes, fragments included: asked for once, since it may take a helper.
    length: u32,
}

impl Frame {
    #[inline(always)]
    fn new(context: *mut xdp_md) -> Self {
        let mut frame = Self { context, length: 0 };
        let (data, end) = frame.bounds();
        let linear = (end - data) as u32;
        frame.length = if frame.length_by_ip() == Some(linear) {
            linear
        } else {
            // SAFETY: a helper on the context.
            unsafe { helpers::bpf_xdp_get_buff_len(context) as u32 }
        };
        frame
    }

    /// What the frame's own IP header says: most frames are as long, and lie in one piece. Fragments behind that length would
    /// be no part of the packet.
    #[inline(always)]
    fn length_by_ip(&self) -> Option<u32> {
        let packet = match self.header::<Ethernet>(0)?.ether_type {
            ether_type::IPV4 => self.header::<Ipv4>(ETHERNET)?.total_length.get() as usize,
            ether_type::IPV6 => size_of::<Ipv6>() + self.header::<Ipv6>(ETHERNET)?.payload_length.get() as usize,
            _ => return None,
        };
        Some((ETHERNET + packet) as u32)
    }

    /// The same frame in another function, which a part is.
    #[inline(always)]
    pub fn again(context: *mut xdp_md) -> Self {
        Self::new(context)
    }

    /// Moves the frame's start by so many bytes: backwards where they are negative.
    #[inline(always)]
    fn adjust_head(&mut self, bytes: i32) -> Result<(), NoRoom> {
        // SAFETY: a helper on the context.
        let result = unsafe { helpers::bpf_xdp_adjust_head(self.context, bytes) };
        if result != 0 {
            return Err(NoRoom);
        }
        self.length = self.length.wrapping_sub(bytes as u32);
        Ok(())
    }
}

impl Window for Frame {
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: the context pointer is the kernel's.
        unsafe { ((*self.context).data as usize, (*self.context).data_end as usize) }
    }
}

impl Packet for Frame {
    #[inline(always)]
    fn length(&self) -> u32 {
        self.length
    }
    #[inline(always)]
    fn gso_size(&self) -> u32 {
        0
    }
    #[inline(always)]
    fn shrink_segments(&mut self, _by: u32) -> Result<(), NoRoom> {
        Err(NoRoom)
    }
    #[inline(always)]
    fn is_finished(&self) -> bool {
        // What comes over a wire is.
        true
    }
    #[inline(always)]
    fn mark(&mut self, _mark: Mark) {}
    #[inline(always)]
    fn has_vlan_tag(&self) -> bool {
        // Tags stand in the frame; one that the driver strips from the outer frame is the underlay's own.
        false
    }
    #[inline(always)]
    fn get<T: Pod>(&self, offset: usize) -> Option<&T> {
        self.header(offset)
    }
    #[inline(always)]
    fn get_mut<T: Pod>(&mut self, offset: usize) -> Option<&mut T> {
        self.header_mut(offset)
    }
    #[inline(always)]
    fn get_at<T: Pod>(&self, offset: usize) -> Option<&T> {
        self.header(variable(offset))
    }
    #[inline(always)]
    fn get_at_mut<T: Pod>(&mut self, offset: usize) -> Option<&mut T> {
        self.header_mut(variable(offset))
    }
    #[inline(always)]
    fn pull(&mut self, _length: u32) {}
    #[inline(always)]
    fn sum(&mut self, offset: u32, length: u32) -> Result<u64, NoRoom> {
        self.take_aside(offset, length)?;
        buffer::sum(buffer::start().ok_or(NoRoom)?, length)
    }
    #[inline(always)]
    fn take_aside(&mut self, offset: u32, length: u32) -> Result<(), NoRoom> {
        let to = buffer::start().ok_or(NoRoom)?;
        let length = buffer::bounded(length)?;
        // SAFETY: the buffer has room for any bounded length.
        let result = unsafe { helpers::bpf_xdp_load_bytes(self.context, offset, to.cast(), length) };
        if result == 0 { Ok(()) } else { Err(NoRoom) }
    }
    #[inline(always)]
    fn put_back(&mut self, _from: u32, _offset: u32, _length: u32) -> Result<(), NoRoom> {
        Err(NoRoom)
    }
    #[inline(always)]
    fn encapsulate(&mut self, overhead: u32) -> Result<(), NoRoom> {
        self.adjust_head(-(overhead as i32))
    }
    #[inline(always)]
    fn open_front(&mut self, overhead: u32) -> Result<(), NoRoom> {
        self.encapsulate(overhead)
    }
    #[inline(always)]
    fn decapsulate(&mut self, overhead: u32) -> Result<(), NoRoom> {
        self.adjust_head(overhead as i32)
    }
    #[inline(always)]
    fn insert_l3(&mut self, _bytes: u32) -> Result<(), NoRoom> {
        Err(NoRoom)
    }
    #[inline(always)]
    fn resize(&mut self, _length: u32) -> Result<(), NoRoom> {
        Err(NoRoom)
    }
    #[inline(always)]
    fn send_copy(&mut self, _target: CopyTarget) {
        // XDP cannot copy: what needs it goes on through the tunnel device.
    }
    #[inline(always)]
    fn part<F: Family, T: Tables>(&mut self, _maps: &T, scratch: &mut Scratch, part: Part) -> Stage {
        parts::of_frame::<F>(self.context, scratch, part)
    }
    #[inline(always)]
    fn repeat<S: Step>(times: u32, step: &mut S) {
        repeat::repeat(times, step);
    }
}

/// An uplink.
#[inline(always)]
pub fn from_uplink(context: *mut xdp_md) -> u32 {
    let mut packet = Frame::new(context);
    let Some(scratch) = tables::scratch() else { return verdict::NO_SCRATCH_XDP };
    let end = ingress::uplink(&mut packet, &Maps, scratch);
    // Once a port is known the outer headers are gone: ports count inner frames.
    // SAFETY: the context pointer is the kernel's.
    let back = unsafe { (*context).ingress_ifindex };
    verdict::xdp(end, verdict::Direction::Ingress, scratch.flow.slot, packet.length(), back)
}

/// A workload's interface.
#[inline(always)]
pub fn from_port(context: *mut xdp_md) -> u32 {
    let mut packet = Frame::new(context);
    let length = packet.length();
    // SAFETY: the context pointer is the kernel's.
    let ifindex = unsafe { (*context).ingress_ifindex };
    let Some(scratch) = tables::scratch() else { return verdict::NO_SCRATCH_XDP };
    let Some(slot) = deliver::locate(&Maps, LocateKey::interface(ifindex)) else { return xdp_action::XDP_PASS };
    let end = match Maps.port(slot) {
        Some(port) if port.epoch != 0 => shortcut::shortcut(&mut packet, &Maps, scratch, slot, port),
        _ => Verdict::punt(),
    };
    if end == Verdict::punt() {
        // To the program at TC, which counts it as well.
        return xdp_action::XDP_PASS;
    }
    verdict::xdp(end, verdict::Direction::Egress, slot, length, ifindex)
}
