//! The kernel programs: entry points of a few lines each. The packet logic is `vpc-datapath`; the adapters here give it
//! packets and tables.
#![no_std]
#![no_main]

mod maps;

use aya_ebpf::{
    bindings::{TC_ACT_OK, xdp_action},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

#[classifier]
pub fn vpc_port(_ctx: TcContext) -> i32 {
    TC_ACT_OK
}

#[classifier]
pub fn vpc_tunnel(_ctx: TcContext) -> i32 {
    TC_ACT_OK
}

#[classifier]
pub fn vpc_uplink_tc(_ctx: TcContext) -> i32 {
    TC_ACT_OK
}

#[xdp(frags)]
pub fn vpc_uplink_xdp(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
