//! Waiting for a condition.

use anyhow::{Context, Result};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

const PAUSE: Duration = Duration::from_millis(20);

/// Tries again and again until it succeeds. Returns the result and the time that it took.
///
/// # Errors
/// The last attempt's error, once `limit` has passed.
pub fn eventually<T>(limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok((value, start.elapsed())),
            Err(error) if start.elapsed() >= limit => {
                return Err(error).with_context(|| format!("still so after {limit:?}"));
            }
            Err(_) => sleep(PAUSE),
        }
    }
}
