//! How far `check` is, on standard error: a bar on a terminal; elsewhere a line per run, and while a run takes long one
//! that says so every now and then.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use struct_ops_model::Invariant;

use crate::engine;
use crate::report::summary;
use crate::report::text::count;
use crate::verdict::Run;

/// How long nothing is said while a run takes long.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Who is told.
pub(super) struct Progress {
    bar: ProgressBar,
    lines: Option<RefCell<Lines>>,
}

impl Progress {
    /// Nothing is said if `quiet`.
    pub(super) fn new(total: usize, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(
            Some(total as u64),
            if terminal && !quiet {
                ProgressDrawTarget::stderr()
            } else {
                ProgressDrawTarget::hidden()
            },
        );
        let style =
            ProgressStyle::with_template("{pos}/{len} {wide_bar} {msg}").expect("a fixed template");
        bar.set_style(style);
        let lines = (!terminal && !quiet).then(|| {
            RefCell::new(Lines::new(
                total,
                Box::new(std::io::stderr()),
                Instant::now(),
            ))
        });
        Progress { bar, lines }
    }

    /// A run begins.
    pub(super) fn begin(&self, scenario: &str, design: &str) {
        let run = format!("{scenario} under {design}");
        if let Some(lines) = &self.lines {
            lines.borrow_mut().begin(&run, Instant::now());
        }
        self.bar.set_message(run);
    }

    /// It goes on.
    pub(super) fn tick(&self, p: &engine::Progress) {
        if let Some(lines) = &self.lines {
            lines.borrow_mut().tick(p, Instant::now());
        }
        let message = self.bar.message();
        let message = message.split(':').next().unwrap_or_default().to_string();
        self.bar.set_message(format!(
            "{message}: {} states, depth {}",
            count(p.states),
            p.depth
        ));
    }

    /// It has ended.
    pub(super) fn end(&self, run: &Run, invariants: &[Invariant]) {
        self.bar.inc(1);
        if let Some(lines) = &self.lines {
            lines.borrow_mut().end(run, invariants);
        }
    }
}

/// Lines for a log.
struct Lines {
    out: Box<dyn Write>,
    total: usize,
    done: usize,
    run: String,
    /// When something was said, or the run began.
    last: Instant,
}

impl Lines {
    fn new(total: usize, out: Box<dyn Write>, now: Instant) -> Self {
        Lines {
            out,
            total,
            done: 0,
            run: String::new(),
            last: now,
        }
    }

    fn begin(&mut self, run: &str, now: Instant) {
        self.run = run.into();
        self.last = now;
    }

    fn tick(&mut self, p: &engine::Progress, now: Instant) {
        if now.duration_since(self.last) < HEARTBEAT {
            return;
        }
        self.last = now;
        let line = format!(
            "{}/{} {}: goes on, {} states, {} to look at, depth {}",
            self.done + 1,
            self.total,
            self.run,
            count(p.states),
            count(p.frontier),
            p.depth
        );
        self.say(&line);
    }

    fn end(&mut self, run: &Run, invariants: &[Invariant]) {
        self.done += 1;
        let line = format!(
            "{}/{} {}",
            self.done,
            self.total,
            summary::line(run, invariants)
        );
        self.say(&line);
    }

    /// Whoever does not listen any more does not end the run.
    fn say(&mut self, line: &str) {
        let _ = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_long_run_is_heard_of() {
        let said = Shared::default();
        let start = Instant::now();
        let mut lines = Lines::new(2, Box::new(said.clone()), start);
        let progress = |states| engine::Progress {
            states,
            frontier: 7,
            depth: 3,
            states_per_second: 0.0,
        };
        lines.begin("a under rfc", start);
        for (seconds, states) in [(1, 10), (29, 20), (30, 1030), (31, 1031), (60, 2060)] {
            lines.tick(&progress(states), start + Duration::from_secs(seconds));
        }
        // A run that has just begun has said nothing yet.
        lines.begin("b under rfc", start + Duration::from_secs(89));
        lines.tick(&progress(1), start + Duration::from_secs(100));
        let text = String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "1/2 a under rfc: goes on, 1,030 states, 7 to look at, depth 3\n\
             1/2 a under rfc: goes on, 2,060 states, 7 to look at, depth 3\n"
        );
    }
}
