//! Reads the serial console of a VM: the test programs' lines, and what the
//! kernel says when something is wrong with it. Pure: lines in, facts out.

use serde::Serialize;

/// How a test ended, as the program in the VM or the lab around it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// every check holds
    Ok,
    /// a check does not hold
    Wrong,
    /// the kernel complained, died or hung during the test
    Broken,
    /// the test could not run here; never a pass
    Skipped,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestResult {
    pub name: String,
    pub outcome: Outcome,
    pub detail: String,
    /// the kernel's complaint and what follows it
    pub console: Vec<String>,
}

/// What a kernel prints when it is not well. The first match of a boot is what
/// counts; oopses are made to panic, so the console usually ends soon after.
const COMPLAINTS: &[&str] = &[
    "Kernel panic",
    "BUG: ",
    "WARNING: ",
    "Oops: ",
    "general protection fault",
    "kernel BUG at",
    "list_add ",
    "list_del ",
    "INFO: rcu",
    "INFO: task",
    "INFO: trying to register non-static key",
    "INFO: possible",
    "suspicious RCU usage",
    "watchdog: BUG",
    "unregister_netdevice: waiting",
];

/// Not about the kernel under test: a machine that is emulated slowly.
const HARMLESS: &[&str] = &["clocksource: ", "spent too long", "hrtimer: interrupt took"];

/// Lines of a splat that are kept.
const SPLAT_LINES: usize = 60;

/// The line without its time stamp and carriage return.
pub fn strip(line: &str) -> &str {
    let line = line.trim_end_matches(['\r', '\n']);
    let Some(rest) = line.strip_prefix('[') else {
        return line;
    };
    match rest.split_once("] ") {
        Some((time, rest)) if time.trim().parse::<f64>().is_ok() => rest,
        _ => line,
    }
}

pub fn is_complaint(line: &str) -> bool {
    let line = strip(line);
    COMPLAINTS.iter().any(|text| line.contains(text))
        && !HARMLESS.iter().any(|text| line.contains(text))
}

#[derive(Default)]
pub struct Console {
    pub results: Vec<TestResult>,
    /// status of the command in the VM
    pub exit: Option<i32>,
    pub started: bool,
    running: Option<String>,
    /// the complaint outside or inside the running test
    splat: Vec<String>,
    in_splat: bool,
}

impl Console {
    pub fn line(&mut self, line: &str) {
        let text = strip(line);
        if let Some(rest) = text.strip_prefix("@lab-run ") {
            self.running = Some(rest.to_owned());
            return;
        }
        if let Some(rest) = text.strip_prefix("@lab-test ") {
            self.test_line(rest);
            return;
        }
        if let Some(rest) = text.strip_prefix("@lab-exit ") {
            self.exit = rest.trim().parse().ok();
            return;
        }
        if text == "@lab-start" {
            self.started = true;
            return;
        }
        if is_complaint(line) {
            self.in_splat = true;
        }
        if self.in_splat && self.splat.len() < SPLAT_LINES {
            self.splat.push(text.to_owned());
        }
    }

    fn test_line(&mut self, rest: &str) {
        let mut parts = rest.splitn(3, ' ');
        let name = parts.next().unwrap_or_default().to_owned();
        let outcome = match parts.next() {
            Some("ok") => Outcome::Ok,
            Some("skipped") => Outcome::Skipped,
            _ => Outcome::Wrong,
        };
        let mut result = TestResult {
            name,
            outcome,
            detail: parts.next().unwrap_or_default().to_owned(),
            console: Vec::new(),
        };
        self.running = None;
        self.take_splat(&mut result);
        self.results.push(result);
    }

    /// A test that passes on a kernel that complains has not passed.
    fn take_splat(&mut self, result: &mut TestResult) {
        if self.in_splat {
            result.console = std::mem::take(&mut self.splat);
            let complaint = complaint(&result.console);
            result.detail = match (result.outcome, result.detail.is_empty()) {
                (Outcome::Wrong, false) => format!("{complaint}; {}", result.detail),
                _ => complaint,
            };
            result.outcome = Outcome::Broken;
            self.in_splat = false;
        }
    }

    /// The VM is gone: `why` if the kernel has not said it itself.
    pub fn end(&mut self, why: &str) {
        let Some(name) = self.running.take() else {
            return;
        };
        let mut result = TestResult {
            name,
            outcome: Outcome::Broken,
            detail: why.to_owned(),
            console: Vec::new(),
        };
        self.take_splat(&mut result);
        self.results.push(result);
    }

    /// What the kernel complained about outside of a test.
    pub fn complaint(&self) -> Option<String> {
        self.in_splat.then(|| complaint(&self.splat))
    }

    /// The kernel died of an int3 that is not there: its dump of the code has another byte where it was executed. Static keys
    /// are patched by way of an int3, and an emulated CPU may go on with what it has translated before. Freed
    /// trampolines are filled with it, and there the dump has it.
    pub fn died_of_stale_int3(&self) -> bool {
        let Some(first) = self.splat.iter().find(|line| is_complaint(line)) else {
            return false;
        };
        let code = self
            .splat
            .iter()
            .find_map(|line| line.strip_prefix("Code: "));
        let before = code
            .and_then(|code| code.split_once(" <"))
            .map(|code| code.0);
        let executed = before.and_then(|before| before.rsplit(' ').next());
        first.contains("Oops: int3") && executed.is_some_and(|byte| byte != "cc")
    }

    pub fn splat(&self) -> &[String] {
        &self.splat
    }

    pub fn has_panicked(line: &str) -> bool {
        strip(line).contains("---[ end Kernel panic") || strip(line).contains("Rebooting in")
    }
}

/// The line that says most about a splat: what KASAN or an oops names first.
fn complaint(splat: &[String]) -> String {
    let first = splat.iter().find(|line| is_complaint(line));
    let rip = splat.iter().find_map(|line| line.strip_prefix("RIP: "));
    match (first, rip) {
        (Some(first), Some(rip)) => format!("{} (RIP: {rip})", without_folders(first)),
        (Some(first), None) => without_folders(first),
        (None, _) => "the kernel complained".to_owned(),
    }
}

/// Where a module was built on this machine says nothing of a kernel.
fn without_folders(line: &str) -> String {
    let words = line.split(' ').map(|word| match word.starts_with('/') {
        true => word.rsplit('/').next().unwrap_or(word),
        false => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Console {
        let mut console = Console::default();
        for line in text.lines() {
            console.line(line);
        }
        console
    }

    #[test]
    fn results_and_exit_status() {
        let console = read(
            "[    0.5] Run /init\r\n@lab-start\n@lab-run a\n@lab-test a ok \n@lab-run b\n\
             @lab-test b wrong x is 1, expected 2\n@lab-run c\n@lab-test c skipped no tool\n@lab-exit 0",
        );
        assert!(console.started);
        assert_eq!(console.exit, Some(0));
        let outcomes: Vec<_> = console.results.iter().map(|r| r.outcome).collect();
        assert_eq!(outcomes, [Outcome::Ok, Outcome::Wrong, Outcome::Skipped]);
        assert_eq!(console.results[1].detail, "x is 1, expected 2");
    }

    #[test]
    fn a_panic_ends_the_running_test() {
        let mut console = read(
            "@lab-run a\n[   12.3] BUG: unable to handle page fault for address: ffff\n\
             [   12.3] RIP: 0010:0xffffffffc0001234\n[   12.4] Kernel panic - not syncing: Fatal\n",
        );
        console.end("the VM ended");
        assert_eq!(console.results.len(), 1);
        let result = &console.results[0];
        assert_eq!(result.outcome, Outcome::Broken);
        assert!(
            result
                .detail
                .starts_with("BUG: unable to handle page fault")
        );
        assert!(result.detail.contains("0xffffffffc0001234"));
        assert_eq!(result.console.len(), 3);
    }

    #[test]
    fn a_splat_is_never_a_pass() {
        let console = read(
            "@lab-run a\n[ 1.0] WARNING: possible circular locking dependency detected\n@lab-test a ok fine\n\
             @lab-run b\n@lab-test b ok fine",
        );
        assert_eq!(console.results[0].outcome, Outcome::Broken);
        assert_eq!(console.results[1].outcome, Outcome::Ok);
    }

    #[test]
    fn a_silent_end_is_not_a_pass() {
        let mut console = read("@lab-run a\n");
        console.end("no word for 60 s");
        assert_eq!(console.results[0].outcome, Outcome::Broken);
        assert_eq!(console.results[0].detail, "no word for 60 s");
        assert_eq!(console.exit, None);
    }

    #[test]
    fn a_complaint_names_no_folder_of_this_machine() {
        let splat = ["WARNING: CPU: 0 PID: 49 at /a/b/lab_ops.c:429 lab_ops_ioctl+0x333/0x420"];
        assert_eq!(
            complaint(&splat.map(String::from)),
            "WARNING: CPU: 0 PID: 49 at lab_ops.c:429 lab_ops_ioctl+0x333/0x420"
        );
    }

    #[test]
    fn complaints_outside_of_tests_are_kept() {
        let console = read("[ 0.1] WARNING: CPU: 0 PID: 1 at x\n@lab-start");
        assert!(console.complaint().is_some());
    }

    #[test]
    fn an_int3_that_is_not_in_memory_is_the_emulators() {
        let oops = |code: &str| {
            read(&format!(
                "@lab-start\n[ 1.0] Oops: int3: 0000 [#1] SMP NOPTI\n[ 1.0] RIP: 0010:pick_task_idle+0xa/0x50\n\
                 [ 1.0] Code: f3 0f 1e fa {code} 48 8b 47 20 c3"
            ))
        };
        assert!(oops("0f 1f 44 00 00 66 <90>").died_of_stale_int3());
        assert!(!oops("cc cc cc cc cc <cc>").died_of_stale_int3());
        assert!(!oops("Bad RIP value.").died_of_stale_int3());
        assert!(!read("[ 1.0] BUG: unable\n[ 1.0] Code: 66 <90>").died_of_stale_int3());
    }

    #[test]
    fn time_stamps_are_no_text() {
        assert_eq!(strip("[    1.234567] hello\r"), "hello");
        assert_eq!(strip("[ x ] hello"), "[ x ] hello");
        assert!(!is_complaint("[ 1.0] clocksource: WARNING: timekeeping"));
        assert!(!is_complaint("[ 1.0] Linux version 6.12"));
    }
}
