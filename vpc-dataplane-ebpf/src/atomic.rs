//! Atomic changes of words: `core` has none for this target.

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

/// Changes a word from 0 to `new`; false if it was not 0 (BPF_ATOMIC | BPF_CMPXCHG). Nothing is reordered across it.
///
/// # Safety
/// `word` is aligned and inside a map's value.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub unsafe fn claim(word: *mut u64, new: u64) -> bool {
    let mut was = 0_u64;
    // SAFETY: as the caller vouches; the instruction changes that word and r0 only.
    unsafe {
        core::arch::asm!("r0 = cmpxchg_64({word} + 0, r0, {new})",
             word = in(reg) word, new = in(reg) new, inout("r0") was);
    }
    was == 0
}

/// The same where lints are checked: on the machine that builds.
///
/// # Safety
/// As above.
#[cfg(not(target_arch = "bpf"))]
#[inline(always)]
pub unsafe fn claim(word: *mut u64, new: u64) -> bool {
    use core::sync::atomic::{AtomicU64, Ordering};
    // SAFETY: as the caller vouches.
    unsafe { AtomicU64::from_ptr(word) }.compare_exchange(0, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

/// Writes a word behind everything that was written before (BPF_ATOMIC | BPF_XCHG).
///
/// # Safety
/// As for [`claim`].
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub unsafe fn publish(word: *mut u64, new: u64) {
    // SAFETY: as the caller vouches; the instruction changes that word and the register only.
    unsafe {
        core::arch::asm!("{new} = xchg_64({word} + 0, {new})", word = in(reg) word, new = inout(reg) new => _);
    }
}

/// The same where lints are checked: on the machine that builds.
///
/// # Safety
/// As above.
#[cfg(not(target_arch = "bpf"))]
#[inline(always)]
pub unsafe fn publish(word: *mut u64, new: u64) {
    use core::sync::atomic::{AtomicU64, Ordering};
    // SAFETY: as the caller vouches.
    unsafe { AtomicU64::from_ptr(word) }.store(new, Ordering::SeqCst);
}
