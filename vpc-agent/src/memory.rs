//! The agent's own memory.

/// Gives back what was freed. The C library keeps it for the threads that had it: what loading the programs takes for a
/// moment, 30 MB, reading the topology would never see again.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
