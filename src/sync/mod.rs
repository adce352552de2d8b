//! What the threads of a store meet at: locks, queues, atomics, and threads themselves. The standard library's, or shuttle's, which
//! decides whose turn it is and so explores one schedule after the other (`tests/schedules.rs`).
//!
//! shuttle knows no time: what waits there for a message or a bell with a limit waits without one. So waiting with a limit is done by the
//! functions below, where shuttle's chance says when the time is up.
//!
//! Counters for `stats` are the standard library's in both worlds: nothing is decided by them. So are `Arc`, which hides nothing, and
//! `OnceLock`, as long as nobody waits in it: it is set and looked at, never filled by a function that takes turns.

use std::time::Duration;

#[cfg(shuttle)]
mod queue;

#[cfg(not(shuttle))]
pub(crate) use std::{
    sync::atomic::{AtomicU8, AtomicU64},
    sync::mpsc::{Receiver, Sender, channel},
    sync::{Condvar, Mutex, MutexGuard},
    thread::{Builder, JoinHandle},
};
#[cfg(shuttle)]
pub(crate) use {
    queue::{Receiver, Sender, channel},
    shuttle::sync::atomic::{AtomicU8, AtomicU64},
    shuttle::sync::{Condvar, Mutex, MutexGuard},
    shuttle::thread::{Builder, JoinHandle},
};

use std::sync::PoisonError;
use std::sync::mpsc::RecvTimeoutError;

/// Locks, and goes on after a panic elsewhere: a thread that panicked while it held one of these left it whole, for they guard single
/// insertions and removals.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the bell.
pub(crate) fn wait<'m, T>(bell: &Condvar, guard: MutexGuard<'m, T>) -> MutexGuard<'m, T> {
    bell.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the bell at most so long. `mutex` is that of `guard`.
#[cfg(not(shuttle))]
pub(crate) fn wait_for<'m, T>(
    bell: &Condvar,
    _mutex: &'m Mutex<T>,
    guard: MutexGuard<'m, T>,
    most: Duration,
) -> MutexGuard<'m, T> {
    bell.wait_timeout(guard, most).unwrap_or_else(PoisonError::into_inner).0
}

#[cfg(shuttle)]
pub(crate) fn wait_for<'m, T>(
    _bell: &Condvar,
    mutex: &'m Mutex<T>,
    guard: MutexGuard<'m, T>,
    _most: Duration,
) -> MutexGuard<'m, T> {
    drop(guard);
    shuttle::thread::yield_now();
    lock(mutex)
}

/// Waits while what `mutex` guards is `idle`, at most so long.
#[cfg(not(shuttle))]
pub(crate) fn wait_while<T>(
    bell: &Condvar,
    mutex: &Mutex<T>,
    most: Duration,
    idle: impl FnMut(&mut T) -> bool,
) {
    drop(bell.wait_timeout_while(lock(mutex), most, idle).unwrap_or_else(PoisonError::into_inner));
}

#[cfg(shuttle)]
pub(crate) fn wait_while<T>(
    _bell: &Condvar,
    mutex: &Mutex<T>,
    _most: Duration,
    mut idle: impl FnMut(&mut T) -> bool,
) {
    while idle(&mut lock(mutex)) && !is_time_up() {
        shuttle::thread::yield_now();
    }
}

/// The next message, for which it waits at most so long.
#[cfg(not(shuttle))]
pub(crate) fn receive<T>(messages: &Receiver<T>, most: Duration) -> Result<T, RecvTimeoutError> {
    messages.recv_timeout(most)
}

#[cfg(shuttle)]
pub(crate) fn receive<T>(messages: &Receiver<T>, _most: Duration) -> Result<T, RecvTimeoutError> {
    use std::sync::mpsc::TryRecvError;
    loop {
        match messages.try_recv() {
            Ok(message) => return Ok(message),
            Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
            Err(TryRecvError::Empty) if is_time_up() => return Err(RecvTimeoutError::Timeout),
            Err(TryRecvError::Empty) => shuttle::thread::yield_now(),
        }
    }
}

/// One time in four.
#[cfg(shuttle)]
fn is_time_up() -> bool {
    use shuttle::rand::Rng;
    shuttle::rand::thread_rng().gen_bool(0.25)
}
