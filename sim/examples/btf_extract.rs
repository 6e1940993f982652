//! Makes the small BTF files of `sim/btf/` out of kernels' large ones; its README has the commands.
//!
//! usage: btf_extract OUT BTF...: every type is taken from the first file that has it.

use std::process::ExitCode;

use struct_ops_sim::btf::{Btf, extract::Extract};

/// struct_ops types.
const TYPES: [&str; 5] = [
    "tcp_congestion_ops",
    "sched_ext_ops",
    "Qdisc_ops",
    "hid_bpf_ops",
    "bpf_dummy_ops",
];
/// What a map and a link consist of: `cost` wants their sizes. Some kernels lack some.
const SIZES: [&str; 8] = [
    "bpf_struct_ops_map",
    "bpf_struct_ops_value",
    "bpf_struct_ops_link",
    "bpf_tramp_link",
    "bpf_tramp_node",
    "bpf_ksym",
    "bpf_struct_ops_attachment",
    "bpf_struct_ops_trampoline",
];
/// What tells architecture, page size and code generator: their fields, and the functions' parameters.
const EVIDENCE: [&str; 5] = [
    "pt_regs",
    "bpf_ringbuf",
    "bpf_tramp_run_ctx",
    "bpf_tramp_image",
    "bpf_verifier_ops",
];
const FUNCTIONS: [&str; 1] = ["save_args"];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("btf_extract: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let out = args.next().ok_or("usage: btf_extract OUT BTF...")?;
    let mut sources = Vec::new();
    for file in args {
        let bytes = std::fs::read(&file).map_err(|e| format!("{file}: {e}"))?;
        sources.push(Btf::parse(&bytes).map_err(|e| format!("{file}: {e}"))?);
    }
    let mut extract = Extract::new();
    for name in TYPES {
        let value = format!("bpf_struct_ops_{name}");
        match sources.iter().find(|btf| btf.find_struct(&value).is_some()) {
            Some(btf) => {
                extract.add(btf, name);
                extract.add_size(btf, &value);
                println!("{name}");
            }
            None => println!("{name}: not in any of the files"),
        }
    }
    for name in SIZES {
        if !sources.iter().any(|btf| extract.add_size(btf, name)) {
            println!("{name}: not in any of the files");
        }
    }
    for name in EVIDENCE {
        if !sources.iter().any(|btf| extract.add(btf, name)) {
            println!("{name}: not in any of the files");
        }
    }
    for name in FUNCTIONS {
        if !sources.iter().any(|btf| extract.add_func(btf, name)) {
            println!("{name}(): not in any of the files");
        }
    }
    std::fs::write(&out, extract.finish()).map_err(|e| format!("{out}: {e}"))?;
    Ok(())
}
