//! A mutex without a guard: taken in one step and released in another, perhaps many calls later.
//!
//! parking_lot's raw mutex, or shuttle's mutex and condition variable in unit tests. Who may release it is the
//! business of [`super::task::Task`], which remembers what it holds.

// Releasing a raw mutex is up to whoever holds it.
#![allow(unsafe_code)]

pub(crate) use imp::RawLock;

impl std::fmt::Debug for RawLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RawLock")
    }
}

#[cfg(not(test))]
mod imp {
    use parking_lot::lock_api::RawMutex as _;

    pub(crate) struct RawLock(parking_lot::RawMutex);

    impl RawLock {
        pub(crate) fn new() -> Self {
            RawLock(parking_lot::RawMutex::INIT)
        }

        pub(crate) fn lock(&self) {
            self.0.lock();
        }

        /// Releases it; the caller holds it.
        pub(crate) fn unlock(&self) {
            // SAFETY: tasks release a lock only if it is in their list of held locks, into which `lock` alone puts it.
            unsafe { self.0.unlock() }
        }
    }
}

#[cfg(test)]
mod imp {
    use shuttle::sync::{Condvar, Mutex};

    pub(crate) struct RawLock(Mutex<bool>, Condvar);

    impl RawLock {
        pub(crate) fn new() -> Self {
            RawLock(Mutex::new(false), Condvar::new())
        }

        pub(crate) fn lock(&self) {
            let mut taken = self.0.lock().expect("no thread panics with a lock held");
            while *taken {
                taken = self
                    .1
                    .wait(taken)
                    .expect("no thread panics with a lock held");
            }
            *taken = true;
        }

        /// Releases it; the caller holds it.
        pub(crate) fn unlock(&self) {
            *self.0.lock().expect("no thread panics with a lock held") = false;
            self.1.notify_one();
        }
    }
}
