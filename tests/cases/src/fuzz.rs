//! What the fuzzers in `fuzz/` do with their input: here, so that every build has it.

pub mod packets;
pub mod topology;
