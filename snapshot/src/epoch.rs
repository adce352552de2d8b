//! The epoch pin: while a [`Guard`] lives, nothing that was reachable when it was made is freed.
//!
//! The guard is a type of our own around crossbeam-epoch's, for soundness: the crossbeam type may come from any
//! collector, and a guard of a foreign collector would protect nothing here. Only [`pin`] makes ours, and it pins
//! the one collector that every deferral of this crate goes to.
//!
//! crossbeam-epoch 0.9.21 can be built for loom (its `loom` feature with `--cfg crossbeam_loom`), but that does not
//! help here: its bags hold 64 deferrals and are looked at every 128 pins, so that within a run short enough to
//! explore nothing is ever freed, and exploring its own list and queue of bags multiplies the states. Under
//! `--cfg loom` a minimal stand-in takes its place, which frees at the earliest moment an epoch scheme may: when the
//! last guard that existed at the deferral is gone. crossbeam-epoch itself is trusted, not checked. The stand-in pins and
//! unpins under a mutex, which orders threads a little more than the real one does; what happens *between* a pin and
//! its unpin, where all protocols of this crate take place, is ordered by their own atomics alone. Under `--cfg shuttle`, where
//! whole stores are explored, it stands in too: threads take turns at each pin, and memory goes at the earliest moment.

#[cfg(not(any(loom, shuttle)))]
mod real {
    /// Keeps the current thread pinned. Not `Send`; keep it short: memory retired meanwhile is not freed.
    #[derive(Debug)]
    pub struct Guard(crossbeam_epoch::Guard);

    /// Pins the current thread. Costs one atomic exchange on memory of this thread alone; no lock, no shared counter.
    ///
    /// Every 128th pin of a thread also executes a few deferrals; those of this crate only hand batches over, so a
    /// reader never pays for freeing what a committer retired.
    #[inline]
    pub fn pin() -> Guard {
        Guard(crossbeam_epoch::pin())
    }

    impl Guard {
        /// Unpins and pins again, so that memory retired so far can be freed. References taken under the guard end
        /// (the borrow checker sees to it). Does nothing where this thread holds another guard.
        pub fn repin(&mut self) {
            self.0.repin();
        }

        /// Runs `work` once no guard that exists now is left, on whichever thread notices.
        pub(crate) fn defer(&self, work: impl FnOnce() + Send + 'static) {
            self.0.defer(work);
        }

        /// Hands this thread's deferrals to the collector and tries to advance the epoch.
        pub(crate) fn flush(&self) {
            self.0.flush();
        }
    }
}

#[cfg(any(loom, shuttle))]
mod model {
    use std::marker::PhantomData;
    use std::mem;

    use crate::sync::Mutex;

    type Work = Box<dyn FnOnce() + Send>;

    #[derive(Default)]
    struct State {
        next: u64,
        pinned: Vec<u64>,
        /// Work, and the guards it still waits for.
        deferred: Vec<(Vec<u64>, Work)>,
    }

    impl Drop for State {
        fn drop(&mut self) {
            // What is left when a model run ends would touch loom's objects after their end.
            #[cfg(loom)]
            mem::forget(mem::take(&mut self.deferred));
        }
    }

    #[cfg(loom)]
    use loom::lazy_static;
    #[cfg(shuttle)]
    use shuttle::lazy_static;

    lazy_static! {
        static ref STATE: Mutex<State> = Mutex::new(State::default());
    }

    /// The stand-in for an epoch pin.
    #[derive(Debug)]
    pub struct Guard {
        id: u64,
        not_send: PhantomData<*const ()>,
    }

    /// Pins the current thread.
    pub fn pin() -> Guard {
        let mut state = crate::sync::lock(&STATE);
        let id = state.next;
        state.next += 1;
        state.pinned.push(id);
        Guard { id, not_send: PhantomData }
    }

    fn unpin(id: u64) {
        let mut ready = Vec::new();
        {
            let mut state = crate::sync::lock(&STATE);
            state.pinned.retain(|other| *other != id);
            let deferred = mem::take(&mut state.deferred);
            for (mut waits, work) in deferred {
                waits.retain(|other| *other != id);
                if waits.is_empty() {
                    ready.push(work);
                } else {
                    state.deferred.push((waits, work));
                }
            }
        }
        ready.into_iter().for_each(|work| work());
    }

    impl Guard {
        /// Unpins and pins again.
        pub fn repin(&mut self) {
            unpin(self.id);
            let fresh = pin();
            self.id = fresh.id;
            mem::forget(fresh);
        }

        pub(crate) fn defer(&self, work: impl FnOnce() + Send + 'static) {
            let mut state = crate::sync::lock(&STATE);
            let waits = state.pinned.clone();
            state.deferred.push((waits, Box::new(work)));
        }

        pub(crate) fn flush(&self) {}
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            unpin(self.id);
        }
    }
}

#[cfg(any(loom, shuttle))]
pub use model::{Guard, pin};
#[cfg(not(any(loom, shuttle)))]
pub use real::{Guard, pin};
