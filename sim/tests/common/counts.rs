//! Counts that are pinned in a file of `counts/`, and explorations on as many threads as there are processors.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What `work` makes of each item, on as many threads as there are processors.
pub fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Relaxed);
                    let Some(item) = items.get(i) else { return };
                    let made = work(item);
                    done.lock().expect("no panic").push((i, made));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no panic");
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, made)| made).collect()
}

/// Holds lines against those of a file; `VARIABLE=overwrite cargo test --test TEST` writes those of today.
pub fn pinned(file: &str, now: &str, (variable, test): (&str, &str)) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/counts")
        .join(file);
    if std::env::var(variable).is_ok_and(|v| v == "overwrite") {
        fs::write(&path, now).expect(file);
        return;
    }
    let was = fs::read_to_string(&path).expect(file);
    let lines = was.lines().zip(now.lines()).filter(|(was, is)| was != is);
    let unlike: Vec<_> = lines.take(20).collect();
    assert!(
        was == now,
        "`{variable}=overwrite cargo test --test {test}`:\n{unlike:#?}"
    );
}
