//! A queue between threads that shuttle takes turns at, as [`std::sync::mpsc::channel`] is. shuttle's own keeps what is queued when the
//! receiver goes; the standard one drops it, and who waits for an answer is told by that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{RecvError, SendError, TryRecvError};

use super::{Condvar, Mutex, lock, wait};

struct State<T> {
    waiting: VecDeque<T>,
    senders: usize,
    has_receiver: bool,
}

struct Queue<T> {
    state: Mutex<State<T>>,
    bell: Condvar,
}

pub(crate) struct Sender<T>(Arc<Queue<T>>);
pub(crate) struct Receiver<T>(Arc<Queue<T>>);

pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let state = State { waiting: VecDeque::new(), senders: 1, has_receiver: true };
    let queue = Arc::new(Queue { state: Mutex::new(state), bell: Condvar::new() });
    (Sender(queue.clone()), Receiver(queue))
}

impl<T> Sender<T> {
    pub(crate) fn send(&self, message: T) -> Result<(), SendError<T>> {
        let mut state = lock(&self.0.state);
        if !state.has_receiver {
            return Err(SendError(message));
        }
        state.waiting.push_back(message);
        drop(state);
        self.0.bell.notify_all();
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        lock(&self.0.state).senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        lock(&self.0.state).senders -= 1;
        self.0.bell.notify_all();
    }
}

impl<T> Receiver<T> {
    pub(crate) fn recv(&self) -> Result<T, RecvError> {
        let mut state = lock(&self.0.state);
        loop {
            match state.waiting.pop_front() {
                Some(message) => return Ok(message),
                None if state.senders == 0 => return Err(RecvError),
                None => state = wait(&self.0.bell, state),
            }
        }
    }

    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut state = lock(&self.0.state);
        let is_over = state.senders == 0;
        state.waiting.pop_front().ok_or(if is_over {
            TryRecvError::Disconnected
        } else {
            TryRecvError::Empty
        })
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.has_receiver = false;
        let waiting = std::mem::take(&mut state.waiting);
        // What they hold may wake others, or send: not under the lock.
        drop(state);
        drop(waiting);
    }
}
