//! Functions that a trampoline may call.
//!
//! The kernel is compiled for stacks aligned to 8 bytes, and its trampolines align no better. The C ABI that Rust
//! follows asks for 16 bytes: a Rust function called by a trampoline directly may crash. [`trampoline_target!`]
//! defines one with an entry that aligns the stack first.

/// Defines `extern "C"` functions with arguments in registers alone (six at most) that trampolines may call.
///
/// ```
/// # #[cfg(target_arch = "x86_64")]
/// struct_ops_sim::trampoline_target! {
///     /// A program that does nothing.
///     extern "C" fn program(_ctx: *const u64, _insnsi: u64) -> u64 {
///         0
///     }
/// }
///
/// fn main() {
///     # #[cfg(target_arch = "x86_64")]
///     assert_eq!(program(std::ptr::null(), 0), 0);
/// }
/// ```
///
/// Each becomes a module of the same name with the body in it, so it is defined where modules can be: not inside a
/// function.
///
/// Sound: the entry keeps every register that the ABI says it keeps (`leave` restores rsp and rbp), passes the
/// argument registers on untouched, and reads nothing from the stack.
#[macro_export]
macro_rules! trampoline_target {
    ($(
        $(#[$meta:meta])*
        $vis:vis extern "C" fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block
    )+) => {$(
        #[allow(unused_imports)]
        mod $name {
            use super::*;
            pub(super) extern "C" fn trampoline_target($($arg: $ty),*) $(-> $ret)? $body
        }

        $(#[$meta])*
        #[unsafe(naked)]
        $vis extern "C" fn $name($($arg: $ty),*) $(-> $ret)? {
            ::core::arch::naked_asm!(
                "push rbp",
                "mov rbp, rsp",
                "and rsp, -16",
                "call {body}",
                "leave",
                "ret",
                body = sym $name::trampoline_target,
            )
        }
    )+};
}
