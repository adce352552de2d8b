//! Things that happen once and are waited for, from threads and from async code.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::sync::{Condvar, Mutex, lock, wait, wait_while};
use crate::{Error, Result};

/// Happens once, with a value or an error.
#[derive(Debug)]
pub(crate) struct Event<T> {
    value: OnceLock<Result<T>>,
    waiting: Mutex<Vec<Waker>>,
    happened: Condvar,
}

impl<T: Clone> Event<T> {
    pub(crate) fn new() -> Self {
        Self { value: OnceLock::new(), waiting: Mutex::new(Vec::new()), happened: Condvar::new() }
    }

    /// An event that has happened.
    pub(crate) fn done(value: T) -> Self {
        let event = Self::new();
        event.set(Ok(value));
        event
    }

    /// An event that never will.
    pub(crate) fn failed(error: Error) -> Self {
        let event = Self::new();
        event.set(Err(error));
        event
    }

    /// Lets it happen. Only the first call counts.
    pub(crate) fn set(&self, value: Result<T>) {
        if self.value.set(value).is_err() {
            return;
        }
        let wakers = {
            let mut waiting = lock(&self.waiting);
            std::mem::take(&mut *waiting)
        };
        self.happened.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn get(&self) -> Option<Result<T>> {
        self.value.get().cloned()
    }

    /// Waits, but not for longer than `patience`.
    pub(crate) fn wait_for(&self, patience: Duration) {
        wait_while(&self.happened, &self.waiting, patience, |_| self.value.get().is_none());
    }

    pub(crate) fn wait(&self) -> Result<T> {
        let mut waiting = lock(&self.waiting);
        loop {
            if let Some(value) = self.value.get() {
                return value.clone();
            }
            waiting = wait(&self.happened, waiting);
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<Result<T>> {
        if let Some(value) = self.value.get() {
            return Poll::Ready(value.clone());
        }
        let mut waiting = lock(&self.waiting);
        // Between the look above and the lock it may have happened, and nobody would wake us.
        if let Some(value) = self.value.get() {
            return Poll::Ready(value.clone());
        }
        if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}

/// An event that somebody was asked to let happen. Where it is dropped before that, with the queue that it waits in or
/// because nobody takes it any more, the event happens with [`Error::Closed`], so that no wait is for ever.
#[derive(Debug)]
pub(crate) struct Asked<T: Clone>(pub(crate) Arc<Event<T>>);

impl<T: Clone> Drop for Asked<T> {
    fn drop(&mut self) {
        if self.0.get().is_none() {
            self.0.set(Err(Error::Closed));
        }
    }
}

/// Something of a commit that is still to come: its root, its durability, its seal. Wait for it on a thread with
/// [`wait`](Self::wait), or `.await` it; no executor is needed, and dropping it costs nothing.
#[derive(Clone, Debug)]
#[must_use = "nothing is waited for until `wait` is called or the future is awaited"]
pub struct Pending<T> {
    event: Arc<Event<T>>,
}

impl<T: Clone> Pending<T> {
    pub(crate) fn new(event: Arc<Event<T>>) -> Self {
        Self { event }
    }

    /// Blocks until it has happened.
    ///
    /// # Errors
    ///
    /// `Poisoned` where it can never happen because a write failed, `Closed` where the store was closed first, `RolledBack` where the
    /// version was given up first, `ProposalEnded` where it never became one.
    pub fn wait(&self) -> Result<T> {
        self.event.wait()
    }

    /// The answer, if it is there.
    pub fn try_get(&self) -> Option<Result<T>> {
        self.event.get()
    }
}

impl<T: Clone> Future for Pending<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.event.poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_thread_is_woken_and_only_the_first_value_counts() {
        let event = Arc::new(Event::new());
        let pending = Pending::new(event.clone());
        let waiter = std::thread::spawn(move || pending.wait().unwrap());
        event.set(Ok(1));
        event.set(Ok(2));
        assert_eq!(waiter.join().unwrap(), 1);
    }

    #[test]
    fn what_was_asked_for_ends_with_the_queue_that_it_waits_in() {
        let (send, receive) = std::sync::mpsc::channel();
        let events: Vec<_> = (0..3).map(|_| Arc::new(Event::<()>::new())).collect();
        send.send(Asked(events[0].clone())).unwrap();
        send.send(Asked(events[1].clone())).unwrap();
        // The first is answered, the second left in the queue, the third comes when nobody listens.
        receive.recv().unwrap().0.set(Ok(()));
        drop(receive);
        send.send(Asked(events[2].clone())).unwrap_err();
        let ends: Vec<_> = events.iter().map(|event| event.wait()).collect();
        assert!(matches!(ends[..], [Ok(()), Err(Error::Closed), Err(Error::Closed)]), "{ends:?}");
    }

    #[test]
    fn a_future_is_woken_once_it_happened() {
        struct Flag(std::sync::atomic::AtomicBool);
        impl std::task::Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, std::sync::atomic::Ordering::SeqCst);
            }
        }
        let flag = Arc::new(Flag(false.into()));
        let waker = Waker::from(flag.clone());
        let event = Arc::new(Event::new());
        let mut pending = Pending::new(event.clone());
        let mut context = Context::from_waker(&waker);
        assert!(Pin::new(&mut pending).poll(&mut context).is_pending());
        event.set(Ok(5));
        assert!(flag.0.load(std::sync::atomic::Ordering::SeqCst));
        assert!(matches!(Pin::new(&mut pending).poll(&mut context), Poll::Ready(Ok(5))));
    }
}
