//! Edits of topologies.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vpc_cases::fuzz::topology::run(data));
