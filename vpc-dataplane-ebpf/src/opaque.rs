//! Values whose history the compiler is to forget.

/// The value, of which the compiler knows nothing, so that it leaves checks in that the verifier needs:
/// `core::hint::black_box` without its way over the stack.
#[inline(always)]
pub fn opaque(value: usize) -> usize {
    let mut value = value;
    // SAFETY: a move to itself, since a line without an instruction is one that the kernel refuses ("Invalid line_info",
    // Linux 6.18). It changes nothing.
    #[cfg(target_arch = "bpf")]
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack));
    }
    // Where lints are checked: on the machine that builds.
    #[cfg(not(target_arch = "bpf"))]
    {
        value = core::hint::black_box(value);
    }
    value
}

/// Reads a word from memory, whatever is known of it, after everything that stands before: as x86 keeps loads in order,
/// so does the compiler here.
#[inline(always)]
pub fn read_again(word: &u32) -> u32 {
    let mut word = core::ptr::from_ref(word);
    // SAFETY: a move to itself, as above; it may write to any memory, for all the compiler knows.
    #[cfg(target_arch = "bpf")]
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) word, options(nostack));
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        word = core::hint::black_box(word);
    }
    // SAFETY: it was a reference.
    unsafe { word.read_volatile() }
}
