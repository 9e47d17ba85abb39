//! Two pieces of work at a time.

use std::{panic::resume_unwind, thread};

/// Does one piece on another CPU while the caller does the other: large topologies are worth the thread.
pub(crate) fn both<A: Send, B>(other: impl FnOnce() -> A + Send, own: impl FnOnce() -> B) -> (A, B) {
    thread::scope(|scope| {
        let other = scope.spawn(other);
        let own = own();
        (other.join().unwrap_or_else(|panic| resume_unwind(panic)), own)
    })
}
