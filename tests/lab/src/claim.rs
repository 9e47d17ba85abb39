//! What the labs of this process have of the machine: a share of it, or all of it.

use anyhow::{Result, bail};
use std::{
    cell::RefCell,
    rc::{Rc, Weak},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

static MACHINE: RwLock<()> = RwLock::new(());

thread_local! {
    /// The claim of this thread's labs. A thread that has one never waits for another: it would wait for those that wait
    /// for it.
    static MINE: RefCell<Weak<Claim>> = const { RefCell::new(Weak::new()) };
}

/// A thread's claim to the machine. Its labs have it in common, and it ends with the last of them.
pub enum Claim {
    /// Beside the labs of other threads.
    Shared { _guard: RwLockReadGuard<'static, ()> },
    /// Without any.
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// The claim that this thread has, or a share once nobody has the whole machine.
pub fn shared() -> Rc<Claim> {
    mine().unwrap_or_else(|| remember(Claim::Shared { _guard: MACHINE.read().unwrap_or_else(PoisonError::into_inner) }))
}

/// The whole machine, once no other thread has a claim.
///
/// # Errors
/// This thread has one already.
pub fn alone() -> Result<Rc<Claim>> {
    if mine().is_some() {
        bail!("a thread that has a lab cannot have another one alone");
    }
    Ok(remember(Claim::Alone { _guard: MACHINE.write().unwrap_or_else(PoisonError::into_inner) }))
}

fn mine() -> Option<Rc<Claim>> {
    MINE.with_borrow(Weak::upgrade)
}

fn remember(claim: Claim) -> Rc<Claim> {
    let claim = Rc::new(claim);
    MINE.set(Rc::downgrade(&claim));
    claim
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, thread, time::Duration};

    /// Time in which a thread surely comes to wait.
    const A_WHILE: Duration = Duration::from_millis(200);

    #[test]
    fn a_thread_takes_a_second_share_while_another_waits_to_be_alone() {
        let first = shared();
        let (arrived, waiter) = mpsc::channel();
        let other = thread::spawn(move || {
            let _alone = alone().expect("this thread has no lab");
            arrived.send(()).expect("the test waits");
        });
        assert!(waiter.recv_timeout(A_WHILE).is_err(), "alone beside another");
        let second = shared();
        drop(first);
        assert!(waiter.recv_timeout(A_WHILE).is_err(), "alone beside another's second lab");
        assert!(alone().is_err(), "alone beside its own lab");
        drop(second);
        other.join().expect("it has the machine now");
        drop(alone().expect("this thread has no lab any more"));
    }
}
