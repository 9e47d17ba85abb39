//! Atomic additions: the target has no compare-and-swap, so `core` has no atomics for it.

/// Adds to a word and returns what it was before (BPF_ATOMIC | BPF_FETCH: instruction set v3, Linux 5.12).
///
/// # Safety
/// `word` is aligned and inside a map's value.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub unsafe fn fetch_add(word: *mut u32, change: u32) -> u32 {
    let mut value = change;
    // SAFETY: as the caller vouches; the instruction changes that word and the register only.
    unsafe {
        core::arch::asm!("{value} = atomic_fetch_add((u32 *)({word} + 0), {value})",
             word = in(reg) word, value = inout(wreg) value);
    }
    value
}

/// The same where lints are checked: on the machine that builds.
///
/// # Safety
/// As above.
#[cfg(not(target_arch = "bpf"))]
#[inline(always)]
pub unsafe fn fetch_add(word: *mut u32, change: u32) -> u32 {
    use core::sync::atomic::{AtomicU32, Ordering};
    // SAFETY: as the caller vouches.
    unsafe { AtomicU32::from_ptr(word) }.fetch_add(change, Ordering::Relaxed)
}
