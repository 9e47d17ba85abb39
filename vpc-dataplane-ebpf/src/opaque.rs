//! Values whose history the compiler is to forget, so that it leaves checks in that the verifier needs.

/// The value, of which the compiler knows nothing: `core::hint::black_box` without its way over the stack.
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
