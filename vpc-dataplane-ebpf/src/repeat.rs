//! Loops that the verifier need not unroll.

use aya_ebpf::helpers;
use core::{ffi::c_void, ptr::from_mut};
use vpc_datapath::packet::{Repeat, Step};

/// `bpf_loop` (Linux 5.17).
#[inline(always)]
pub fn repeat<S: Step>(times: u32, step: &mut S) {
    // SAFETY: the callback gets the very `step` that is passed, which outlives the call.
    unsafe { helpers::bpf_loop(times, round::<S> as *mut c_void, from_mut(step).cast(), 0) };
}

unsafe extern "C" fn round<S: Step>(index: u64, step: *mut c_void) -> i64 {
    // SAFETY: `repeat` passes an `S` that nothing else uses meanwhile.
    match unsafe { &mut *step.cast::<S>() }.step(index as u32) {
        Repeat::Next => 0,
        Repeat::Stop => 1,
    }
}
