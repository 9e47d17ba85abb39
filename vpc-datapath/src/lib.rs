//! Packet logic of the VPC router, free of I/O: the same code runs in the kernel, under tests and under fuzzers.
#![no_std]
#![forbid(unsafe_code)]

pub mod scratch;
