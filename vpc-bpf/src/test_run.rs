//! `BPF_PROG_TEST_RUN`: a loaded program on a packet that is made up.

use crate::syscall::{attributes, bpf};
use aya_obj::generated::{BPF_F_TEST_XDP_LIVE_FRAMES, bpf_cmd};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

/// What to run a program on.
///
/// For a classifier the frame is copied into a fresh skb whose device is the loopback of the current network
/// namespace, or `ctx`'s `ifindex`. For XDP the context is `xdp_md`; its `data` and `data_end` count from the start of
/// `data`.
///
/// With `repeat`, all runs see the same packet, edits of earlier runs included.
#[derive(Clone, Copy, Debug, Default)]
pub struct TestRun<'a> {
    /// The frame.
    pub data: &'a [u8],
    /// The context, `__sk_buff` or `xdp_md` as bytes; empty for the kernel's own.
    pub context: &'a [u8],
    /// How often it runs; 0 counts as 1.
    pub repeat: u32,
    /// Whether frames really go where the program sends them.
    pub frames: Frames,
}

/// Where the frames of an XDP program go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Frames {
    /// Nowhere: the frame is given back after the last run.
    #[default]
    Returned,
    /// Where the program sends them, in batches of that size; nothing is given back. Linux 5.18.
    Live {
        /// Frames of one batch, at most 256; 0 for the kernel's 64.
        batch: u32,
    },
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResult {
    /// The program's verdict.
    pub verdict: u32,
    /// The frame after the last run.
    pub data: Vec<u8>,
    /// The context after the last run; empty where none was given.
    pub context: Vec<u8>,
    /// Time of one run, the average of all.
    pub duration: Duration,
}

/// Room for a frame that a program made longer.
const GROWTH: usize = 512;

/// Runs a program.
///
/// # Errors
/// EINVAL where the frame is shorter than an Ethernet header or larger than the kernel allows here.
pub fn test_run(program: BorrowedFd<'_>, run: &TestRun<'_>) -> io::Result<TestResult> {
    let mut data = vec![0; run.data.len().max(1_500) + GROWTH];
    let mut context = vec![0_u8; run.context.len()];
    let mut attributes = attributes();
    attributes.test.prog_fd = program.as_raw_fd() as u32;
    attributes.test.data_in = run.data.as_ptr() as u64;
    attributes.test.data_size_in = run.data.len() as u32;
    attributes.test.repeat = run.repeat;
    if !run.context.is_empty() {
        attributes.test.ctx_in = run.context.as_ptr() as u64;
        attributes.test.ctx_size_in = run.context.len() as u32;
    }
    match run.frames {
        Frames::Returned => {
            attributes.test.data_out = data.as_mut_ptr() as u64;
            attributes.test.data_size_out = data.len() as u32;
            if !run.context.is_empty() {
                attributes.test.ctx_out = context.as_mut_ptr() as u64;
                attributes.test.ctx_size_out = context.len() as u32;
            }
        }
        Frames::Live { batch } => {
            attributes.test.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
            attributes.test.batch_size = batch;
        }
    }
    // SAFETY: every address belongs to a buffer of the length stated beside it, alive until the call returns.
    unsafe { bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attributes)? };
    // SAFETY: the kernel wrote these fields; before, they were zero.
    let test = unsafe { attributes.test };
    data.truncate(if run.frames == Frames::Returned { test.data_size_out as usize } else { 0 });
    context.truncate(if run.frames == Frames::Returned { test.ctx_size_out as usize } else { 0 });
    Ok(TestResult { verdict: test.retval, data, context, duration: Duration::from_nanos(test.duration.into()) })
}
