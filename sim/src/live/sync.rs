//! Locks, atomics, threads and channels of the runtime: parking_lot's and std's, or shuttle's in unit tests.
//!
//! The same code runs on real threads and under shuttle's scheduler, which then decides at every one of these
//! operations who goes on. Nothing else of the runtime knows the difference.

#[cfg(not(test))]
mod imp {
    pub(crate) use parking_lot::{Mutex, MutexGuard};
    pub(crate) use std::sync::atomic;
    pub(crate) use std::sync::mpsc;
    pub(crate) use std::thread;
    pub(crate) use std::thread_local;

    pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock()
    }
}

#[cfg(test)]
mod imp {
    pub(crate) use shuttle::sync::atomic;
    pub(crate) use shuttle::sync::mpsc;
    pub(crate) use shuttle::sync::{Mutex, MutexGuard};
    pub(crate) use shuttle::thread;
    pub(crate) use shuttle::thread_local;

    pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().expect("no thread panics with a lock held")
    }
}

pub(crate) use imp::{MutexGuard, atomic, mpsc, thread, thread_local};

/// A lock; the kernel's `struct mutex`.
#[derive(Debug)]
pub struct Mutex<T>(imp::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(imp::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        imp::lock(&self.0)
    }
}

/// Lets others run: one look at a condition is over, and it does not hold yet.
pub(crate) fn relax(tries: &mut u32) {
    *tries += 1;
    #[cfg(not(test))]
    if *tries > 64 {
        thread::sleep(std::time::Duration::from_micros(20));
        return;
    }
    thread::yield_now();
}
