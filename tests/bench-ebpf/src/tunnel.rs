//! The price of tunnel headers alone.

use crate::abi::OVERHEAD;
use aya_ebpf::{
    EbpfContext,
    bindings::{
        BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
        BPF_F_ADJ_ROOM_FIXED_GSO, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, xdp_md,
    },
    helpers::{bpf_skb_adjust_room, bpf_xdp_adjust_head},
    programs::TcContext,
};

/// Bytes of an Ethernet header.
const ETHERNET: u64 = 14;
/// Outer headers and the inner Ethernet header.
const HEADERS: usize = OVERHEAD + ETHERNET as usize;

/// Takes the outer headers off.
#[inline(always)]
pub fn pop(context: *mut xdp_md) -> Option<()> {
    // SAFETY: a helper on the context.
    (unsafe { bpf_xdp_adjust_head(context, OVERHEAD as i32) } == 0).then_some(())
}

/// Puts outer headers on.
#[inline(always)]
pub fn push(context: &TcContext) -> Option<()> {
    const FLAGS: u64 = (BPF_F_ADJ_ROOM_FIXED_GSO
        | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4
        | BPF_F_ADJ_ROOM_ENCAP_L4_UDP
        | BPF_F_ADJ_ROOM_ENCAP_L2_ETH) as u64
        | ETHERNET << 56;
    // SAFETY: a helper on the context.
    if unsafe { bpf_skb_adjust_room(context.as_ptr().cast(), OVERHEAD as i32, BPF_ADJ_ROOM_MAC, FLAGS) } != 0 {
        return None;
    }
    let (data, end) = (context.data(), context.data_end());
    if data + HEADERS > end {
        return None;
    }
    // SAFETY: the bounds were checked.
    unsafe { (data as *mut [u64; HEADERS / 8]).write_unaligned([0x0045_0008_0102_0304; HEADERS / 8]) };
    Some(())
}
