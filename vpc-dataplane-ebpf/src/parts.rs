//! The parts of the pipelines as functions of their own for the verifier ("global" ones, Linux 5.6): it looks at each of
//! them once, with nothing known but the context, and takes a call for a number that may be any. What they share with
//! their callers is this CPU's scratch, which they look up again: before Linux 6.2 a helper takes no key from memory that
//! was handed to a function.

use crate::{skb::Skb, tables, tables::Maps, xdp::Frame};
use aya_ebpf::bindings::{__sk_buff, xdp_md};
use vpc_common::DropReason;
use vpc_datapath::{
    Part, Scratch, Stage, Verdict,
    family::{Family, FamilyV4, FamilyV6},
    policy,
    respond::Trouble,
    session::{Decision, Known, Origin},
};

/// A stage's outcome as a register: 0, or the verdict that ends the way.
#[inline(always)]
fn bits(stage: Stage) -> u64 {
    stage.err().map_or(0, Verdict::bits)
}

/// The inverse of [`bits`].
#[inline(always)]
fn stage(bits: u64) -> Stage {
    Verdict::from_bits(bits).map_or(Ok(()), Err)
}

/// Lets go of the scratch for a call that finds it by the map: whatever the compiler has kept of it in registers is written
/// before and read again after.
#[inline(always)]
fn lend(scratch: &mut Scratch) {
    let scratch: *mut Scratch = scratch;
    // SAFETY: a move to itself, since a line without an instruction is one that the kernel refuses ("Invalid line_info",
    // Linux 6.18). For what the compiler knows it may touch all memory.
    #[cfg(target_arch = "bpf")]
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) scratch => _);
    }
    // Where lints are checked: on the machine that builds.
    #[cfg(not(target_arch = "bpf"))]
    core::hint::black_box(scratch);
}

/// `name: packet(context), family, part`, with the part's own argument in front where it has one.
macro_rules! parts {
    ($($name:ident$(($($argument:ident),+))?: $packet:ident($context:ty), $family:ty, $part:expr;)*) => { $(
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(context: *mut $context $($(, $argument: u32)+)?) -> u64 {
            let Some(scratch) = tables::scratch() else { return Verdict::drop(DropReason::NoRoom).bits() };
            bits($part.run::<$family, _, _>(&mut $packet::again(context), &Maps, scratch))
        }
    )* };
}

parts! {
    skb_decide_egress_v4: Skb(__sk_buff), FamilyV4, Part::DecideEgress;
    skb_decide_egress_v6: Skb(__sk_buff), FamilyV6, Part::DecideEgress;
    skb_decide_ingress_v4(n): Skb(__sk_buff), FamilyV4, Part::DecideIngress(Origin::from_number(n));
    skb_decide_ingress_v6(n): Skb(__sk_buff), FamilyV6, Part::DecideIngress(Origin::from_number(n));
    skb_record_v4(d, k): Skb(__sk_buff), FamilyV4, Part::Record(Decision::from_number(d), Known::from_number(k));
    skb_record_v6(d, k): Skb(__sk_buff), FamilyV6, Part::Record(Decision::from_number(d), Known::from_number(k));
    skb_trouble_v4(n): Skb(__sk_buff), FamilyV4, Part::Trouble(Trouble::from_number(n));
    skb_trouble_v6(n): Skb(__sk_buff), FamilyV6, Part::Trouble(Trouble::from_number(n));
    skb_fragment: Skb(__sk_buff), FamilyV4, Part::Fragment;
    skb_flood_nodes(first): Skb(__sk_buff), FamilyV4, Part::FloodNodes(first);
    skb_hairpin_v4: Skb(__sk_buff), FamilyV4, Part::Hairpin;
    skb_hairpin_v6: Skb(__sk_buff), FamilyV6, Part::Hairpin;
    xdp_decide_ingress_v4: Frame(xdp_md), FamilyV4, Part::DecideIngress(Origin::Tunnel);
    xdp_decide_ingress_v6: Frame(xdp_md), FamilyV6, Part::DecideIngress(Origin::Tunnel);
    xdp_record_v4(d, k): Frame(xdp_md), FamilyV4, Part::Record(Decision::from_number(d), Known::from_number(k));
    xdp_record_v6(d, k): Frame(xdp_md), FamilyV6, Part::Record(Decision::from_number(d), Known::from_number(k));
}

/// [`Part::Judge`], which asks nothing of the packet: what a function does not use the compiler does not pass, and the
/// verifier insists on it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge() -> u64 {
    let Some(scratch) = tables::scratch() else { return Verdict::drop(DropReason::NoRoom).bits() };
    bits(policy::judge(&Maps, scratch))
}

/// Calls a part for a socket buffer.
#[inline(always)]
pub fn of_skb<F: Family>(skb: *mut __sk_buff, scratch: &mut Scratch, part: Part) -> Stage {
    lend(scratch);
    stage(match (part, F::ICMP == FamilyV4::ICMP) {
        (Part::DecideEgress, true) => skb_decide_egress_v4(skb),
        (Part::DecideEgress, false) => skb_decide_egress_v6(skb),
        (Part::DecideIngress(origin), true) => skb_decide_ingress_v4(skb, origin as u32),
        (Part::DecideIngress(origin), false) => skb_decide_ingress_v6(skb, origin as u32),
        (Part::Record(decision, known), true) => skb_record_v4(skb, decision.number(), known.number()),
        (Part::Record(decision, known), false) => skb_record_v6(skb, decision.number(), known.number()),
        (Part::Judge, _) => judge(),
        (Part::Trouble(trouble), true) => skb_trouble_v4(skb, trouble as u32),
        (Part::Trouble(trouble), false) => skb_trouble_v6(skb, trouble as u32),
        (Part::Fragment, _) => skb_fragment(skb),
        (Part::FloodNodes(first), _) => skb_flood_nodes(skb, first),
        (Part::Hairpin, true) => skb_hairpin_v4(skb),
        (Part::Hairpin, false) => skb_hairpin_v6(skb),
    })
}

/// Calls a part for a frame at the XDP hook, which comes by the tunnel: the others are parts of other ways.
#[inline(always)]
pub fn of_frame<F: Family>(frame: *mut xdp_md, scratch: &mut Scratch, part: Part) -> Stage {
    lend(scratch);
    stage(match (part, F::ICMP == FamilyV4::ICMP) {
        (Part::DecideIngress(Origin::Tunnel), true) => xdp_decide_ingress_v4(frame),
        (Part::DecideIngress(Origin::Tunnel), false) => xdp_decide_ingress_v6(frame),
        (Part::Record(decision, known), true) => xdp_record_v4(frame, decision.number(), known.number()),
        (Part::Record(decision, known), false) => xdp_record_v6(frame, decision.number(), known.number()),
        (Part::Judge, _) => judge(),
        _ => Verdict::drop(DropReason::NoRoom).bits(),
    })
}
