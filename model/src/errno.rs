//! Negative errno values, as the kernel numbers them, and their names.
//!
//! Stands for include/uapi/asm-generic/errno-base.h and errno.h, as far as the attach path returns them.

macro_rules! errnos {
    ($($name:ident = $value:literal),+ $(,)?) => {
        $(#[allow(missing_docs)] pub const $name: i8 = -$value;)+

        /// Every errno that the model knows, by name.
        pub const NAMES: &[(i8, &str)] = &[$(($name, concat!("-", stringify!($name)))),+];
    };
}

errnos! {
    EPERM = 1,
    ENOENT = 2,
    EIO = 5,
    E2BIG = 7,
    EBADF = 9,
    EAGAIN = 11,
    ENOMEM = 12,
    EBUSY = 16,
    EEXIST = 17,
    ENODEV = 19,
    EINVAL = 22,
    ENOLINK = 67,
    EOPNOTSUPP = 95,
    EINPROGRESS = 115,
    ESTALE = 116,
}

/// The name of a result: `0`, `-EBUSY`, or the number.
pub fn name(err: i8) -> String {
    let known = NAMES.iter().find(|n| n.0 == err);
    known.map_or_else(|| err.to_string(), |n| n.1.to_string())
}
