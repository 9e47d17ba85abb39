//! Token buckets: what a port may cause in a second.

use vpc_common::port::TokenBucket;

/// Whether a token was there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Token {
    /// It was, and is gone.
    Taken,
    /// There was none.
    Missing,
}

/// Takes a token from a bucket that fills at `rate` a second and holds one second's worth.
#[inline(always)]
pub fn take(bucket: &mut TokenBucket, rate: u32, now: u64) -> Token {
    const SECOND: u64 = 1_000_000_000;
    let elapsed = now.saturating_sub(bucket.filled_ns);
    if elapsed >= SECOND {
        bucket.filled_ns = now;
        bucket.tokens = rate;
    } else {
        let earned = elapsed * rate as u64 / SECOND;
        if earned > 0 {
            let full = bucket.tokens as u64 + earned;
            bucket.tokens = if full > rate as u64 { rate } else { full as u32 };
            bucket.filled_ns = now;
        }
    }
    if bucket.tokens == 0 {
        return Token::Missing;
    }
    bucket.tokens -= 1;
    Token::Taken
}
