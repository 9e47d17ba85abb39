//! A fresh frame in the place of the one that an earlier run has edited.

use crate::abi::{Ends, FLOWS, Flow, Frame, HEADER_WORDS, OVERHEAD, PAIRS, shape};
use aya_ebpf::{
    bindings::xdp_md,
    btf_maps::Array,
    helpers::{bpf_xdp_adjust_head, bpf_xdp_get_buff_len},
    macros::btf_map,
};

#[btf_map]
static FRAME: Array<Frame, 1> = Array::new();
#[btf_map]
static FLOW_LIST: Array<Flow, { FLOWS as usize }> = Array::new();
#[btf_map]
static ENDS: Array<Ends, { PAIRS as usize }> = Array::new();
/// Number of the flow that is next.
#[btf_map]
static NEXT: Array<u32, 1> = Array::new();

/// Offset of the outer UDP source port.
const OUTER_PORT: usize = 34;

/// Gives the frame its length back, writes its headers anew and the next flow into them.
#[inline(always)]
pub fn make(context: *mut xdp_md) -> Option<()> {
    let frame = FRAME.get(0)?;
    let flow = next(frame.flows)?;
    let ends = ENDS.get(flow.ends)?;
    // SAFETY: a helper on the context.
    let length = unsafe { bpf_xdp_get_buff_len(context) } as i32;
    // Always called, so that its cost does not depend on what the program under test did.
    // SAFETY: as above.
    if unsafe { bpf_xdp_adjust_head(context, length - frame.length as i32) } != 0 {
        return None;
    }
    let (data, end) = bounds(context);
    copy::<0, 6>(data, end, frame)?;
    // Longer headers have more; the shortest frame ends before.
    let _ends = copy::<6, 8>(data, end, frame).and_then(|()| copy::<8, 12>(data, end, frame));
    let _ends = copy::<12, HEADER_WORDS>(data, end, frame);
    match frame.shape {
        0 => v4::<0>(data, end, ends, flow.ports),
        shape::V6 => v6::<0>(data, end, ends, flow.ports),
        shape::TUNNELLED => v4::<OVERHEAD>(data, end, ends, flow.ports),
        _ => v6::<OVERHEAD>(data, end, ends, flow.ports),
    }
}

#[inline(always)]
fn next(flows: u32) -> Option<&'static Flow> {
    let next = NEXT.get_ptr_mut(0)?;
    // SAFETY: only one CPU runs the benchmark.
    let index = unsafe { *next };
    // SAFETY: as above.
    unsafe { *next = if index + 1 >= flows { 0 } else { index + 1 } };
    FLOW_LIST.get(index)
}

#[inline(always)]
fn bounds(context: *mut xdp_md) -> (usize, usize) {
    // SAFETY: the context pointer is the kernel's.
    unsafe { ((*context).data as usize, (*context).data_end as usize) }
}

#[inline(always)]
fn at<T>(data: usize, end: usize, offset: usize) -> Option<*mut T> {
    let start = data + offset;
    if start + size_of::<T>() > end { None } else { Some(start as *mut T) }
}

#[inline(always)]
fn copy<const FROM: usize, const TO: usize>(data: usize, end: usize, frame: &Frame) -> Option<()> {
    if data + TO * 8 > end {
        return None;
    }
    let mut word = FROM;
    while word < TO {
        // SAFETY: the bounds were checked.
        unsafe { ((data + word * 8) as *mut u64).write_unaligned(frame.headers[word]) };
        word += 1;
    }
    Some(())
}

#[inline(always)]
fn v4<const INNER: usize>(data: usize, end: usize, ends: &Ends, ports: u32) -> Option<()> {
    /// IPv4 from the checksum on, then the ports.
    #[repr(C, packed)]
    struct Fields(u16, u32, u32, u32);
    let fields = Fields(ends.checksum as u16, ends.source[0], ends.destination[0], ports);
    // SAFETY: the bounds are checked; packed has alignment 1.
    unsafe { *at::<Fields>(data, end, INNER + 24)? = fields };
    outer_port::<INNER>(data, end, ports)
}

#[inline(always)]
fn v6<const INNER: usize>(data: usize, end: usize, ends: &Ends, ports: u32) -> Option<()> {
    /// IPv6 from the source on, then the ports.
    #[repr(C, packed)]
    struct Fields([u32; 4], [u32; 4], u32);
    // SAFETY: the bounds are checked; packed has alignment 1.
    unsafe { *at::<Fields>(data, end, INNER + 22)? = Fields(ends.source, ends.destination, ports) };
    outer_port::<INNER>(data, end, ports)
}

#[inline(always)]
fn outer_port<const INNER: usize>(data: usize, end: usize, ports: u32) -> Option<()> {
    if INNER != 0 {
        // The first byte makes it one of those for tunnels (RFC 7348 §5).
        let port = (ports ^ ports >> 16) as u16 | u16::from_ne_bytes([0xc0, 0]);
        // SAFETY: the bounds are checked.
        unsafe { at::<u16>(data, end, OUTER_PORT)?.write_unaligned(port) };
    }
    Some(())
}
