//! The kernel programs: entry points of a few lines each. The packet logic is `vpc-datapath`; the adapters here give it
//! packets ([`skb`], [`xdp`]) and tables ([`tables`]), and carry out and count its verdicts ([`verdict`]).
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod atomic;
mod buffer;
mod maps;
mod opaque;
mod parts;
mod repeat;
mod skb;
mod tables;
mod verdict;
mod window;
mod xdp;

use aya_ebpf::{
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

/// TC ingress of a workload's interface: what the workload sends.
#[classifier]
#[inline(always)]
pub fn vpc_port(context: TcContext) -> i32 {
    skb::from_port(context.skb.skb)
}

/// XDP on the interface of a workload in packet-rate mode, in front of [`vpc_port`].
#[xdp(frags)]
#[inline(always)]
pub fn vpc_port_xdp(context: XdpContext) -> u32 {
    xdp::from_port(context.ctx)
}

/// TC ingress of the tunnel device: tunnel packets that the kernel has decapsulated and merged.
#[classifier]
#[inline(always)]
pub fn vpc_tunnel(context: TcContext) -> i32 {
    skb::from_tunnel(context.skb.skb)
}

/// TC ingress of an uplink that is received by TC: guards the kernel's tunnel socket.
#[classifier]
#[inline(always)]
pub fn vpc_uplink_tc(context: TcContext) -> i32 {
    skb::from_uplink(context.skb.skb)
}

/// TC ingress of the offload device's far end: packets whose segments and checksums the kernel has finished.
#[classifier]
#[inline(always)]
pub fn vpc_offload(context: TcContext) -> i32 {
    skb::from_offload(context.skb.skb)
}

/// TC ingress of a gateway's external interface: what comes from outside.
#[classifier]
#[inline(always)]
pub fn vpc_external(context: TcContext) -> i32 {
    skb::from_outside(context.skb.skb)
}

/// XDP on an uplink.
#[xdp(frags)]
#[inline(always)]
pub fn vpc_uplink_xdp(context: XdpContext) -> u32 {
    xdp::from_uplink(context.ctx)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
