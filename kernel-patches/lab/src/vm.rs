//! Boots a kernel under QEMU, runs one command in it, and never takes silence,
//! a panic or a vanished VM for success: a pass needs the marker on the console
//! *and* the status through isa-debug-exit.

use crate::build::Built;
use crate::console::Console;
use crate::cpio::Cpio;
use crate::error::{At, Error, Result};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// isa-debug-exit turns a written byte into the status (byte << 1) | 1.
const DEBUG_EXIT: &str = "isa-debug-exit,iobase=0x501,iosize=1";

/// Oopses and warnings end the VM; hangs are found by the kernel itself.
const CMDLINE: &str = "console=ttyS0 panic=-1 oops=panic panic_on_warn=1 softlockup_panic=1 \
    watchdog_thresh=10 rcupdate.rcu_cpu_stall_timeout=15 sysctl.kernel.panic_on_rcu_stall=1 \
    sysctl.kernel.hung_task_panic=1 no_hash_pointers loglevel=7";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    Kvm,
    Tcg,
}

impl Accel {
    pub fn name(self) -> &'static str {
        match self {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg",
        }
    }
}

/// How many processors a VM has if nothing is said.
pub const PROCESSORS: usize = 2;

/// How long a VM may be silent, and how long it may run in all.
#[derive(Clone, Copy)]
pub struct Limits {
    pub silence: Duration,
    pub total: Duration,
}

impl Limits {
    pub fn new(debug: bool) -> Self {
        let slow = if debug { 4 } else { 1 };
        Limits {
            silence: Duration::from_secs(90 * slow),
            total: Duration::from_secs(600 * slow),
        }
    }
}

/// The VM is over.
pub struct Ended {
    pub console: Console,
    /// none: the VM ended without the command's word, `why` says how
    pub status: Option<i32>,
    pub why: String,
}

/// The command, the lab's programs and `files`, by their names in the VM.
pub fn initramfs(built: &Built, command: &str, files: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut cpio = Cpio::default();
    for dir in ["bin", "dev", "lab", "proc", "sys", "tmp"] {
        cpio.dir(dir);
    }
    cpio.char_device("dev/console", 5, 1);
    let busybox = Path::new("/bin/busybox");
    cpio.file("bin/busybox", &fs::read(busybox).at(busybox)?);
    cpio.file(
        "bin/sh",
        b"#!/bin/busybox sh\nexec /bin/busybox sh \"$@\"\n",
    );
    cpio.file("lab/cmd", command.as_bytes());
    for (name, content) in files {
        cpio.file(name, content);
    }
    let tests = ["vmtest", "test_progs", "hid_bpf", "bpftool"];
    let all = ["init", "labrun", "bpf_testmod.ko", "lab_ops.ko"];
    for name in all.into_iter().chain(tests) {
        // what files are for is labrun, and the tests are large
        if !files.is_empty() && tests.contains(&name) {
            continue;
        }
        // the selftests are built with the modules
        let with_modules = name.ends_with(".ko") || matches!(name, "test_progs" | "hid_bpf");
        if with_modules && !built.modules {
            continue;
        }
        let path = built.programs.join(name);
        let to = if name == "init" {
            "init".into()
        } else {
            format!("lab/{name}")
        };
        cpio.file(&to, &fs::read(&path).at(&path)?);
    }
    Ok(cpio.finish())
}

/// Runs a shell command in the VM; `echo` gets every line of the console.
pub fn boot(
    kernel: &Path,
    initramfs: &Path,
    accel: Accel,
    processors: usize,
    limits: Limits,
    mut echo: impl FnMut(&str),
) -> Result<Ended> {
    let mut qemu = Command::new("qemu-system-x86_64");
    match accel {
        Accel::Kvm => qemu.args(["-accel", "kvm", "-cpu", "host"]),
        Accel::Tcg => qemu.args(["-accel", "tcg", "-cpu", "max"]),
    };
    qemu.args(["-smp", &processors.to_string(), "-m", "1536"])
        .args(["-display", "none", "-monitor", "none"])
        .args([
            "-nodefaults",
            "-no-reboot",
            "-serial",
            "stdio",
            "-device",
            DEBUG_EXIT,
        ])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", CMDLINE])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = qemu.spawn().map_err(|source| Error::Spawn {
        command: "qemu-system-x86_64".into(),
        source,
    })?;
    let lines = read_lines(&mut child);

    let start = Instant::now();
    let mut console = Console::default();
    let mut deadline = None;
    let mut why = "the VM ended without a word".to_owned();
    loop {
        let now = Instant::now();
        let left = (start + limits.total).saturating_duration_since(now);
        let wait = match deadline {
            Some(deadline) => left.min(Instant::saturating_duration_since(&deadline, now)),
            None => left.min(limits.silence),
        };
        match lines.recv_timeout(wait) {
            Ok(line) => {
                echo(&line);
                console.line(&line);
                if Console::has_panicked(&line) {
                    why = "kernel panic".into();
                    // what is still in the pipe, not another time-out
                    deadline = Some(Instant::now() + Duration::from_millis(500));
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                if deadline.is_none() {
                    why = if start.elapsed() >= limits.total {
                        format!("not done after {} s", limits.total.as_secs())
                    } else {
                        format!("hangs: no line for {} s", limits.silence.as_secs())
                    };
                }
                child.kill().at("qemu")?;
                break;
            }
        }
    }
    let status = child.wait().at("qemu")?;
    let through_device = status
        .code()
        .filter(|code| code & 1 == 1)
        .map(|code| code >> 1);
    let status = match (console.exit, through_device) {
        (Some(marker), Some(device)) if marker == device => Some(marker),
        _ => None,
    };
    if status.is_none() {
        let mut stderr = String::new();
        if let Some(mut pipe) = child.stderr.take() {
            let _ = std::io::Read::read_to_string(&mut pipe, &mut stderr);
        }
        if !stderr.trim().is_empty() && !console.started {
            why = format!("{why}; qemu: {}", stderr.trim());
        }
        console.end(&why);
    }
    Ok(Ended {
        console,
        status,
        why,
    })
}

fn read_lines(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n') {
                let Ok(line) = line else { break };
                let line = String::from_utf8_lossy(&line).into_owned();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
    }
    receiver
}

/// KVM if a VM comes up with it: a device file alone proves nothing, some
/// machines have a flavour of KVM that does not run a stock kernel.
pub fn probe_accel(cache: &Path, built: &Built) -> Result<Accel> {
    let usable = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    if !usable {
        return Ok(Accel::Tcg);
    }
    let file = cache.join("probe.cpio");
    fs::write(&file, initramfs(built, "true\n", &[])?).at(&file)?;
    let limits = Limits {
        silence: Duration::from_secs(10),
        total: Duration::from_secs(20),
    };
    let ended = boot(&built.kernel, &file, Accel::Kvm, PROCESSORS, limits, |_| {})?;
    Ok(if ended.status == Some(0) {
        Accel::Kvm
    } else {
        Accel::Tcg
    })
}

/// A kernel with all that it takes to boot it.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    pub cache: &'a Path,
    pub built: &'a Built,
    pub accel: Accel,
    pub processors: usize,
    pub limits: Limits,
}

impl Machine<'_> {
    pub fn run(&self, command: &str, echo: impl FnMut(&str)) -> Result<Ended> {
        self.run_with(command, &[], echo)
    }

    /// The same with files beside the lab's own.
    pub fn run_with(
        &self,
        command: &str,
        files: &[(String, Vec<u8>)],
        echo: impl FnMut(&str),
    ) -> Result<Ended> {
        // lab runs may overlap, and so may the kernels of one
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let file = self
            .cache
            .join(format!("initramfs.{}.{run}.cpio", std::process::id()));
        fs::write(&file, initramfs(self.built, command, files)?).at(&file)?;
        let ended = boot(
            &self.built.kernel,
            &file,
            self.accel,
            self.processors,
            self.limits,
            echo,
        );
        fs::remove_file(&file).at(&file)?;
        ended
    }
}
