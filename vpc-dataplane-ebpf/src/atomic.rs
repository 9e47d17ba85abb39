//! Atomic additions: the target has no compare-and-swap, so `core` has no atomics for it.

use core::arch::asm;

/// Adds to a word and returns what it was before (BPF_ATOMIC | BPF_FETCH: instruction set v3, Linux 5.12).
///
/// # Safety
/// `word` is aligned and inside a map's value.
#[inline(always)]
pub unsafe fn fetch_add(word: *mut u32, change: u32) -> u32 {
    let mut value = change;
    // SAFETY: as the caller vouches; the instruction changes that word and the register only.
    unsafe {
        asm!("{value} = atomic_fetch_add((u32 *)({word} + 0), {value})",
             word = in(reg) word, value = inout(wreg) value);
    }
    value
}
