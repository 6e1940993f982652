//! What a call through a trampoline costs, beside the call that it stands for.
//!
//! Real trampolines (`struct_ops_sim::tramp`), run here; enter, exit and programs are small Rust functions, so the
//! figures are about the machine code between caller and program, not about a kernel's RCU. Not here: attaching
//! (`attach.rs`). Ends with a table of ratios; a time is never asserted.

#![cfg_attr(all(target_arch = "x86_64", target_os = "linux"), allow(unsafe_code))]

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod calls;

fn main() {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    calls::main();
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    println!("skipped: {}", struct_ops_sim::tramp::Error::Unavailable);
}
