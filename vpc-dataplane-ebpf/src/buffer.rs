//! This CPU's buffer, for what is taken out of a packet.

use crate::{maps, opaque::opaque};
use aya_ebpf::helpers;
use core::ptr::null_mut;
use vpc_datapath::packet::{BUFFER, NoRoom};

/// Twice [`BUFFER`], so that an offset and a length, each below it, stay inside.
pub type Bytes = [u64; 2 * BUFFER as usize / 8];

/// Largest range that is summed by one call of the helper (before Linux 6.12).
const CHUNK: u32 = 512;

/// The start of the buffer.
#[inline(always)]
pub fn start() -> Option<*mut u8> {
    maps::BUFFERS.get_ptr_mut(0).map(|b| b.cast())
}

/// A length that the verifier knows to be in 1..[`BUFFER`]. What it is less than one is compared, since older verifiers
/// learn no lower bound from `length != 0` ("invalid access to map value, … off=0 size=0", Linux 6.1).
#[inline(always)]
pub fn bounded(length: u32) -> Result<u32, NoRoom> {
    let less_one = opaque(length.wrapping_sub(1) as usize) as u32;
    if less_one >= BUFFER - 1 { Err(NoRoom) } else { Ok(less_one + 1) }
}

/// The ones' complement sum of the first `length` bytes; what is behind them is overwritten.
#[inline(always)]
pub fn sum(buffer: *mut u8, length: u32) -> Result<u64, NoRoom> {
    if length >= 4 * CHUNK {
        return Err(NoRoom);
    }
    // SAFETY: length is below 2048, the buffer is 32 KiB.
    unsafe { buffer.add(length as usize).cast::<u64>().write_unaligned(0) };
    let mut total = 0u64;
    let mut at = 0;
    while at < 4 * CHUNK {
        if at < length {
            let rest = (length - at + 3) & !3;
            let size = if rest > CHUNK { CHUNK } else { rest };
            // SAFETY: at is below 2048 and size at most 512.
            let part = unsafe { helpers::bpf_csum_diff(null_mut(), 0, buffer.add(at as usize).cast(), size, 0) };
            if part < 0 {
                return Err(NoRoom);
            }
            total += part as u64;
        }
        at += CHUNK;
    }
    Ok(total)
}
