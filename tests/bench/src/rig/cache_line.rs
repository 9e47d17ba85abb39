//! How far apart the first and the last CPU are just now: the round trip of a cache line. On a virtual machine it moves.

use crate::machine;
use std::{
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    thread,
    time::Instant,
};

const ROUNDS: u32 = 50_000;
const BATCH: u32 = 500;

/// On a cache line of its own.
#[repr(align(128))]
struct Ball(AtomicU32);

/// ns of a round trip, the best of 100 batches.
pub(super) fn round_trip() -> f64 {
    let last = machine::last_cpu();
    if last == 0 {
        return f64::NAN;
    }
    let ball = Ball(AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let _elsewhere = machine::pin_to(last);
            for _ in 0..ROUNDS {
                while ball.0.load(SeqCst) == 0 {}
                ball.0.store(0, SeqCst);
            }
        });
        let serve = || {
            let _elsewhere = machine::pin_to(0);
            let mut best = f64::INFINITY;
            for _ in 0..ROUNDS / BATCH {
                let start = Instant::now();
                for _ in 0..BATCH {
                    ball.0.store(1, SeqCst);
                    while ball.0.load(SeqCst) == 1 {}
                }
                best = best.min(start.elapsed().as_nanos() as f64 / f64::from(BATCH));
            }
            best
        };
        scope.spawn(serve).join().unwrap_or(f64::NAN)
    })
}
