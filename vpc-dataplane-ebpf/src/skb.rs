//! `__sk_buff` as `vpc_datapath::Packet`, and the TC entry points.

use crate::{
    buffer,
    opaque::opaque,
    parts, repeat, tables,
    tables::Maps,
    verdict,
    window::{Window, variable},
};
use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L2_ETH,
        BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
        BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_TUNINFO_IPV6,
        bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, bpf_tunnel_key,
    },
    helpers,
};
use bytemuck::Pod;
use core::marker::PhantomData;
use vpc_common::{
    Be32, DropReason, Ip, Vni,
    limits::{OVERHEAD_V4, OVERHEAD_V6},
    locate::LocateKey,
    offload::Mark,
    port::{UNDERLAY_SLOT, flags},
    wire::{Ethernet, ether_type},
};
use vpc_datapath::{
    Packet, Part, Scratch, Stage, Tables, Verdict, deliver, egress, external,
    family::Family,
    ingress,
    packet::{CopyTarget, Covered, NoRoom, Step, SumChange, Zero},
    scratch::Outer,
};

/// Bytes that are made linear before the pipeline starts: Ethernet, IPv4 and TCP headers. Of bulk TCP exactly the headers
/// are linear, and a byte more would cost a copy of all of them, a reference to each page and the payload's alignment.
const HEADERS_V4: u32 = 14 + 20 + 20;
/// The same with IPv6.
const HEADERS_V6: u32 = 14 + 40 + 20;

/// What an interface has left to do: known to the compiler, so that nobody pays for the question.
pub trait Past {
    /// See [`Packet::is_finished`].
    const FINISHED: bool;
}

/// As a workload handed it over. A type of its own so that its program's fast path is its own: what two programs share, the
/// compiler makes a function of, and to return from one may cost as much as a look-up.
pub struct Sent;
/// As a driver handed it over.
pub struct Raw;
/// As it comes out of the offload device.
pub struct Finished;

impl Past for Sent {
    const FINISHED: bool = false;
}
impl Past for Raw {
    const FINISHED: bool = false;
}
impl Past for Finished {
    const FINISHED: bool = true;
}

/// A socket buffer at a TC hook.
pub struct Skb<W = Raw>(*mut __sk_buff, PhantomData<W>);

impl<W: Past> Skb<W> {
    #[inline(always)]
    fn new(skb: *mut __sk_buff) -> Self {
        let mut packet = Self(skb, PhantomData);
        // SAFETY: the context pointer is the kernel's.
        let protocol = unsafe { (*skb).protocol } as u16;
        packet.pull(if protocol == ether_type::IPV4.raw() { HEADERS_V4 } else { HEADERS_V6 });
        packet
    }
}

impl Skb {
    /// The same packet in another function, which a part is: its headers are linear.
    #[inline(always)]
    pub fn again(skb: *mut __sk_buff) -> Self {
        Self(skb, PhantomData)
    }
}

impl<W> Window for Skb<W> {
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: the context pointer is the kernel's.
        unsafe { ((*self.0).data as usize, (*self.0).data_end as usize) }
    }
}

impl<W: Past> Packet for Skb<W> {
    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context pointer is the kernel's.
        unsafe { (*self.0).len }
    }
    #[inline(always)]
    fn gso_size(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).gso_size }
    }
    #[inline(always)]
    fn shrink_segments(&mut self, by: u32) -> Result<(), NoRoom> {
        lower_gso_size(self.0, by)
    }
    #[inline(always)]
    fn is_finished(&self) -> bool {
        W::FINISHED
    }
    #[inline(always)]
    fn mark(&mut self, mark: Mark) {
        // SAFETY: as above.
        unsafe { (*self.0).mark = mark.bits() };
    }
    #[inline(always)]
    fn has_vlan_tag(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0).vlan_present != 0 }
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
    fn pull(&mut self, length: u32) {
        let (data, end) = self.bounds();
        let all = self.length();
        if data + length as usize > end && all > (end - data) as u32 {
            // SAFETY: a helper on the context. If it fails the headers are not there, and their checks say so.
            unsafe { helpers::bpf_skb_pull_data(self.0, if length < all { length } else { all }) };
        }
    }
    #[inline(never)]
    fn sum(&mut self, offset: u32, length: u32) -> Result<u64, NoRoom> {
        self.take_aside(offset, length)?;
        buffer::sum(buffer::start().ok_or(NoRoom)?, length)
    }
    #[inline(always)]
    fn change_sum(&mut self, at: usize, change: SumChange) -> Result<(), NoRoom> {
        // The helper knows of checksums that were only begun, and keeps the kernel's own sum over the packet right.
        let zero = match change.zero {
            Zero::Absent => BPF_F_MARK_MANGLED_0 as u64,
            Zero::Value => 0,
        };
        let (at, old, new) = (at as u32, change.old as u64, change.new as u64);
        // SAFETY: a helper on the context.
        let result = unsafe {
            match change.covered {
                Covered::PseudoHeader => {
                    helpers::bpf_l4_csum_replace(self.0, at, old, new, BPF_F_PSEUDO_HDR as u64 | zero | 4)
                }
                Covered::Segment => helpers::bpf_l4_csum_replace(self.0, at, old, new, zero | 2),
            }
        };
        if result == 0 { Ok(()) } else { Err(NoRoom) }
    }
    #[inline(always)]
    fn take_aside(&mut self, offset: u32, length: u32) -> Result<(), NoRoom> {
        let to = buffer::start().ok_or(NoRoom)?;
        let length = buffer::bounded(length)?;
        // SAFETY: the buffer has room for any bounded length.
        let result = unsafe { helpers::bpf_skb_load_bytes(self.0.cast(), offset, to.cast(), length) };
        if result == 0 { Ok(()) } else { Err(NoRoom) }
    }
    #[inline(always)]
    fn put_back(&mut self, from: u32, offset: u32, length: u32) -> Result<(), NoRoom> {
        let buffer = buffer::start().ok_or(NoRoom)?;
        let (from, length) =
            (opaque(from as usize) & (vpc_datapath::packet::BUFFER as usize - 1), buffer::bounded(length)?);
        // SAFETY: offset and length are each below half of the buffer.
        let result = unsafe { helpers::bpf_skb_store_bytes(self.0, offset, buffer.add(from).cast(), length, 0) };
        if result == 0 { Ok(()) } else { Err(NoRoom) }
    }
    #[inline(always)]
    fn unshare(&mut self) {
        // No room at all, but all that comes before it.
        // SAFETY: a helper on the context. If it fails the frame is only queued elsewhere.
        unsafe { helpers::bpf_skb_change_head(self.0, 0, 0) };
    }
    #[inline(always)]
    fn encapsulate(&mut self, overhead: u32) -> Result<(), NoRoom> {
        const COMMON: u64 = (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2_ETH)
            as u64
            | (size_of::<Ethernet>() as u64) << 56;
        // Constants for the verifier, which checks neither but reads better so.
        let result = if overhead == OVERHEAD_V4 {
            let flags = COMMON | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 as u64;
            // SAFETY: a helper on the context.
            unsafe { helpers::bpf_skb_adjust_room(self.0, 50, BPF_ADJ_ROOM_MAC, flags) }
        } else {
            let flags = COMMON | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 as u64;
            // SAFETY: as above.
            unsafe { helpers::bpf_skb_adjust_room(self.0, 70, BPF_ADJ_ROOM_MAC, flags) }
        };
        if result == 0 { Ok(()) } else { open_front_of_other(self.0, overhead) }
    }
    #[inline(always)]
    fn open_front(&mut self, overhead: u32) -> Result<(), NoRoom> {
        // What adjust_room has marked as encapsulated, bpf_skb_change_tail does not resize (EINVAL, Linux 6.18).
        // SAFETY: a helper on the context.
        let result = unsafe { helpers::bpf_skb_change_head(self.0, overhead, 0) };
        if result == 0 { Ok(()) } else { Err(NoRoom) }
    }
    #[inline(always)]
    fn decapsulate(&mut self, overhead: u32) -> Result<(), NoRoom> {
        // Of a frame with segments adjust_room would leave the tunnel's GSO bits behind: the tunnel device takes those.
        if overhead == OVERHEAD_V4 {
            remove_outer::<W, { OVERHEAD_V4 as usize }>(self)
        } else {
            remove_outer::<W, { OVERHEAD_V6 as usize }>(self)
        }
    }
    #[inline(always)]
    fn insert_l3(&mut self, bytes: u32) -> Result<(), NoRoom> {
        // SAFETY: a helper on the context.
        let result = unsafe { helpers::bpf_skb_adjust_room(self.0, bytes as i32, BPF_ADJ_ROOM_MAC, 0) };
        if result == 0 { Ok(()) } else { Err(NoRoom) }
    }
    #[inline(always)]
    fn resize(&mut self, length: u32) -> Result<(), NoRoom> {
        // SAFETY: a helper on the context.
        let result = unsafe { helpers::bpf_skb_change_tail(self.0, length, 0) };
        if result == 0 { Ok(()) } else { Err(NoRoom) }
    }
    #[inline(always)]
    fn send_copy(&mut self, target: CopyTarget) {
        let CopyTarget::Interface(ifindex) = target;
        // SAFETY: a helper on the context. A copy that could not be made is lost like any datagram on a full link.
        unsafe { helpers::bpf_clone_redirect(self.0, ifindex, 0) };
    }
    #[inline(always)]
    fn part<F: Family, T: Tables>(&mut self, _maps: &T, scratch: &mut Scratch, part: Part) -> Stage {
        parts::of_skb::<F>(self.0, scratch, part)
    }
    #[inline(always)]
    fn repeat<S: Step>(times: u32, step: &mut S) {
        repeat::repeat(times, step);
    }
}

/// Removes outer headers. The helper keeps the first Ethernet header, in whose place the inner one is put.
#[inline(always)]
fn remove_outer<W: Past, const OVERHEAD: usize>(packet: &mut Skb<W>) -> Result<(), NoRoom> {
    let inner: *const Ethernet = packet.at(OVERHEAD).ok_or(NoRoom)?;
    // SAFETY: in bounds; any bytes are valid.
    let (head, tail, ether_type) = unsafe {
        (inner.cast::<u64>().read_unaligned(), inner.byte_add(6).cast::<u64>().read_unaligned(), (*inner).ether_type)
    };
    let outer = if OVERHEAD == OVERHEAD_V4 as usize { ether_type::IPV4 } else { ether_type::IPV6 };
    // Which protocol is the outermost now, if it is another one: before Linux 6.3 that cannot be said, and fails.
    let flags = match ether_type {
        same if same == outer => 0,
        ether_type::IPV6 => BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
        _ => BPF_F_ADJ_ROOM_DECAP_L3_IPV4,
    };
    // SAFETY: a helper on the context.
    let result = unsafe { helpers::bpf_skb_adjust_room(packet.0, -(OVERHEAD as i32), BPF_ADJ_ROOM_MAC, flags as u64) };
    if result != 0 {
        return Err(NoRoom);
    }
    let first: *mut Ethernet = packet.at(0).ok_or(NoRoom)?;
    // SAFETY: in bounds.
    unsafe {
        first.cast::<u64>().write_unaligned(head);
        first.byte_add(6).cast::<u64>().write_unaligned(tail);
    }
    Ok(())
}

/// Lowers the GSO size. No helper does it by itself: room that is opened behind the Ethernet header takes it from the
/// segments, unless told otherwise, and room that is closed there gives nothing back if told so. The kernel refuses frames
/// that are not of TCP (ENOTSUPP, Linux 6.18), whose segments are the sender's.
#[inline(never)]
fn lower_gso_size(skb: *mut __sk_buff, by: u32) -> Result<(), NoRoom> {
    /// The helper takes no more at once.
    const MOST: u32 = 0xfff;
    let first = if by < MOST { by } else { MOST };
    let rest = by - first;
    if rest > MOST {
        return Err(NoRoom);
    }
    for bytes in [first, rest] {
        if bytes == 0 {
            continue;
        }
        // SAFETY: helpers on the context.
        let result = unsafe {
            match helpers::bpf_skb_adjust_room(skb, bytes as i32, BPF_ADJ_ROOM_MAC, 0) {
                0 => helpers::bpf_skb_adjust_room(
                    skb,
                    -(bytes as i32),
                    BPF_ADJ_ROOM_MAC,
                    BPF_F_ADJ_ROOM_FIXED_GSO as u64,
                ),
                error => error,
            }
        };
        if result != 0 {
            return Err(NoRoom);
        }
    }
    Ok(())
}

/// Opens room in front of a frame that is not IP: `bpf_skb_adjust_room` refuses those (ENOTSUPP, Linux 6.18), and they
/// have no segments nor checksums to come, for which it would be needed.
#[inline(never)]
fn open_front_of_other(skb: *mut __sk_buff, overhead: u32) -> Result<(), NoRoom> {
    // SAFETY: the context pointer is the kernel's.
    let protocol = unsafe { (*skb).protocol } as u16;
    if protocol == ether_type::IPV4.raw() || protocol == ether_type::IPV6.raw() {
        return Err(NoRoom);
    }
    // SAFETY: a helper on the context.
    let result = unsafe { helpers::bpf_skb_change_head(skb, overhead, 0) };
    if result == 0 { Ok(()) } else { Err(NoRoom) }
}

/// A workload's interface.
#[inline(always)]
pub fn from_port(skb: *mut __sk_buff) -> i32 {
    let mut packet = Skb::<Sent>::new(skb);
    let length = packet.length();
    // SAFETY: the context pointer is the kernel's.
    let ifindex = unsafe { (*skb).ifindex };
    let Some(scratch) = tables::scratch() else { return verdict::NO_SCRATCH };
    let Some(slot) = deliver::locate(&Maps, LocateKey::interface(ifindex)) else {
        return verdict::tc(DropReason::UnknownPort.into(), verdict::Direction::Egress, 0, length, ifindex);
    };
    let end = match Maps.port(slot) {
        Some(port) if port.epoch != 0 => egress::egress(&mut packet, &Maps, scratch, slot, port),
        _ => DropReason::UnknownPort.into(),
    };
    verdict::tc(end, verdict::Direction::Egress, slot, length, ifindex)
}

/// The tunnel device.
#[inline(always)]
pub fn from_tunnel(skb: *mut __sk_buff) -> i32 {
    let mut packet = Skb::<Raw>::new(skb);
    let length = packet.length();
    let Some(scratch) = tables::scratch() else { return verdict::NO_SCRATCH };
    let end = match outer(skb, &mut scratch.outer) {
        Some(()) => ingress::tunnel(&mut packet, &Maps, scratch),
        None => {
            // The scratch is as the last packet left it.
            scratch.flow.slot = UNDERLAY_SLOT;
            DropReason::OuterHeader.into()
        }
    };
    verdict::tc(end, verdict::Direction::Ingress, scratch.flow.slot, length, 0)
}

/// An uplink without XDP.
#[inline(always)]
pub fn from_uplink(skb: *mut __sk_buff) -> i32 {
    let mut packet = Skb::<Raw>::new(skb);
    // SAFETY: the context pointer is the kernel's.
    let ifindex = unsafe { (*skb).ifindex };
    let Some(scratch) = tables::scratch() else { return verdict::NO_SCRATCH };
    let end = ingress::uplink_tc(&mut packet, &Maps, scratch);
    let slot = scratch.flow.slot;
    // Once a port is known the outer headers are gone: ports count inner frames, and only what belongs to none can go back
    // as it is.
    let back = if slot == UNDERLAY_SLOT { ifindex } else { 0 };
    verdict::tc(end, verdict::Direction::Ingress, slot, packet.length(), back)
}

/// A gateway's external interface.
#[inline(always)]
pub fn from_outside(skb: *mut __sk_buff) -> i32 {
    let mut packet = Skb::<Raw>::new(skb);
    let length = packet.length();
    // SAFETY: the context pointer is the kernel's.
    let ifindex = unsafe { (*skb).ifindex };
    let Some(scratch) = tables::scratch() else { return verdict::NO_SCRATCH };
    let end = external::external(&mut packet, &Maps, scratch);
    verdict::tc(end, verdict::Direction::Ingress, scratch.flow.slot, length, ifindex)
}

/// The far end of the offload device: a packet takes its sender's way once more, and is counted as the sender's.
#[inline(always)]
pub fn from_offload(skb: *mut __sk_buff) -> i32 {
    let mut packet = Skb::<Finished>::new(skb);
    let length = packet.length();
    // SAFETY: the context pointer is the kernel's. Nobody behind us shall take the mark for one of theirs.
    let mark = unsafe { core::mem::take(&mut (*skb).mark) };
    let Some(scratch) = tables::scratch() else { return verdict::NO_SCRATCH };
    let Some(slot) = Mark::slot(mark) else {
        return verdict::tc(DropReason::OffloadStray.into(), verdict::Direction::Ingress, UNDERLAY_SLOT, length, 0);
    };
    if slot == UNDERLAY_SLOT {
        let end = match external::external(&mut packet, &Maps, scratch) {
            // It was the fabric's when it went in: the host has no part in what comes out.
            end if end == Verdict::punt() => DropReason::OffloadStray.into(),
            end => end,
        };
        let back = Maps.outlet().map_or(0, |outlet| outlet.ifindex);
        return verdict::tc(end, verdict::Direction::Ingress, scratch.flow.slot, length, back);
    }
    match Maps.port(slot) {
        Some(port) if port.epoch != 0 => {
            let end = egress::egress(&mut packet, &Maps, scratch, slot, port);
            if port.flags & flags::ROUTER != 0 {
                // The router counts what it is sent.
                return verdict::tc(end, verdict::Direction::Ingress, slot, length, 0);
            }
            verdict::tc(end, verdict::Direction::Egress, slot, length, port.ifindex)
        }
        _ => verdict::tc(DropReason::UnknownPort.into(), verdict::Direction::Egress, slot, length, 0),
    }
}

/// Takes what the kernel says of the outer headers it has removed.
#[inline(always)]
fn outer(skb: *mut __sk_buff, outer: &mut Outer) -> Option<()> {
    let is_v4 = Maps.node()?.vtep.is_v4();
    // SAFETY: all zero is a valid bpf_tunnel_key.
    let mut key: bpf_tunnel_key = unsafe { core::mem::zeroed() };
    let flags = if is_v4 { 0 } else { BPF_F_TUNINFO_IPV6 as u64 };
    // SAFETY: the helper writes at most the size that it is told.
    let result = unsafe { helpers::bpf_skb_get_tunnel_key(skb, &mut key, size_of::<bpf_tunnel_key>() as u32, flags) };
    if result != 0 {
        return None;
    }
    // SAFETY: the flags say which member of the union is set.
    outer.source = unsafe {
        if is_v4 { Ip::v4(Be32::new(key.__bindgen_anon_1.remote_ipv4)) } else { Ip(key.__bindgen_anon_1.remote_ipv6) }
    };
    outer.vni = Vni(key.tunnel_id);
    outer.overhead = 0;
    outer.tos = key.tunnel_tos;
    Some(())
}
