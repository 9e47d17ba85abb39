//! Kernel programs of the benchmark: what makes frames, what counts them, and what the product is compared with.
//!
//! A program under test edits its packet, so a run needs a fresh one. [`drive`] makes it (the headers from a template,
//! the next flow from an array) and tail-calls the program; its own cost is measured with [`xdp_nothing`] as the
//! program. A classifier cannot be driven so, since a pushed tunnel header cannot be taken off an skb without traces:
//! [`deliver`] makes frames that the kernel turns into fresh skbs (live frames), which reach the classifier at TC
//! ingress; the rest of that way is measured with [`tc_nothing`].
#![no_std]
#![no_main]

mod abi;
mod forward;
mod fresh;
mod tunnel;

use abi::{NOWHERE, NextHop, SINK_PORT};
use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_REDIRECT, TC_ACT_SHOT, xdp_action},
    btf_maps::{DevMap, PerCpuArray, ProgramArray},
    helpers::bpf_redirect,
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};

/// The program under test.
#[btf_map]
static TARGET: ProgramArray<1> = ProgramArray::new();
/// Where frames are sent.
#[btf_map]
static DEVICES: DevMap<1> = DevMap::new();
/// Frames that the sink saw.
#[btf_map]
static COUNT: PerCpuArray<u64, 1> = PerCpuArray::new();

/// A fresh frame for the program under test.
#[xdp(frags)]
pub fn drive(context: XdpContext) -> u32 {
    if fresh::make(context.ctx).is_some() {
        // SAFETY: the context and the map are the kernel's.
        unsafe { TARGET.tail_call(&context, 0) };
    }
    xdp_action::XDP_ABORTED
}

/// A fresh frame for the stack.
#[xdp(frags)]
pub fn deliver(context: XdpContext) -> u32 {
    fresh::make(context.ctx).map_or(xdp_action::XDP_ABORTED, |()| xdp_action::XDP_PASS)
}

/// A fresh frame out of a device.
#[xdp(frags)]
pub fn generate(context: XdpContext) -> u32 {
    match fresh::make(context.ctx) {
        Some(()) => DEVICES.redirect(0, 0).unwrap_or(xdp_action::XDP_ABORTED),
        None => xdp_action::XDP_ABORTED,
    }
}

/// Lets everything pass: what it costs that there is a program at all.
#[xdp(frags)]
pub fn xdp_pass(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// The cost of [`drive`] alone.
#[xdp(frags)]
pub fn xdp_nothing(_context: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// The cost of [`deliver`] and of the stack: redirected nowhere, as the product's frames are, but without the helper.
#[classifier]
pub fn tc_nothing(_context: TcContext) -> i32 {
    TC_ACT_REDIRECT as i32
}

/// The forwarder.
#[xdp(frags)]
pub fn xdp_forward(context: XdpContext) -> u32 {
    match forward::next_hop(context.data(), context.data_end()) {
        Some(_) => DEVICES.redirect(0, 0).unwrap_or(xdp_action::XDP_ABORTED),
        None => xdp_action::XDP_DROP,
    }
}

/// The forwarder.
#[classifier]
pub fn tc_forward(context: TcContext) -> i32 {
    match forward::next_hop(context.data(), context.data_end()) {
        Some(NextHop { ifindex, .. }) => redirect(*ifindex),
        None => TC_ACT_SHOT as i32,
    }
}

/// Outer headers off, and nothing else.
#[xdp(frags)]
pub fn xdp_pop(context: XdpContext) -> u32 {
    match tunnel::pop(context.ctx) {
        Some(()) => DEVICES.redirect(0, 0).unwrap_or(xdp_action::XDP_ABORTED),
        None => xdp_action::XDP_DROP,
    }
}

/// Outer headers on, and nothing else.
#[classifier]
pub fn tc_push(context: TcContext) -> i32 {
    match tunnel::push(&context) {
        Some(()) => redirect(NOWHERE),
        None => TC_ACT_SHOT as i32,
    }
}

/// Counts and drops what comes to its port, and lets everything else (ARP) pass.
#[classifier]
pub fn sink(context: TcContext) -> i32 {
    if !forward::is_to_port(context.data(), context.data_end(), SINK_PORT) {
        return TC_ACT_OK as i32;
    }
    if let Some(count) = COUNT.get_ptr_mut(0) {
        // SAFETY: a per-CPU value that only the running program changes.
        unsafe { *count += 1 };
    }
    TC_ACT_SHOT as i32
}

/// The same, but sends it back to where it came from.
#[classifier]
pub fn reflect(context: TcContext) -> i32 {
    if !forward::is_to_port(context.data(), context.data_end(), SINK_PORT) {
        return TC_ACT_OK as i32;
    }
    if let Some(count) = COUNT.get_ptr_mut(0) {
        // SAFETY: as above.
        unsafe { *count += 1 };
    }
    forward::turn(context.data(), context.data_end());
    // SAFETY: the context is the kernel's.
    redirect(unsafe { (*context.skb.skb).ifindex })
}

#[inline(always)]
fn redirect(ifindex: u32) -> i32 {
    // SAFETY: a helper without memory arguments.
    unsafe { bpf_redirect(ifindex, 0) as i32 }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
