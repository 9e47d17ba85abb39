//! Sequences of frames through the host build of the pipelines.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vpc_cases::fuzz::packets::run(data));
