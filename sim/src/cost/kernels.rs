//! The kernels that need no file: extracts of their BTF are part of the program.

use super::Kernel;
use super::generator::Generator;
use super::memory::AttachmentLayout;
use crate::btf::{Btf, BtfError};

/// Name and BTF; `sim/btf/README.md` says where each is from.
const SHIPPED: [(&str, &[u8]); 2] = [
    ("6.12", include_bytes!("../../btf/6.12.btf")),
    ("7.3", include_bytes!("../../btf/7.3.btf")),
];

/// The structs of a link-owned attachment, as the kernel patch series has them.
const LINK_OWNED: &[u8] = include_bytes!("../../btf/6.12-link-owned.btf");

/// Names of the shipped ones.
pub fn names() -> [&'static str; 2] {
    SHIPPED.map(|(name, _)| name)
}

/// A shipped one by name.
pub fn shipped(name: &str) -> Option<Result<Kernel, BtfError>> {
    let (name, btf) = SHIPPED.iter().find(|(shipped, _)| *shipped == name)?;
    Some(Btf::parse(btf).and_then(|btf| of_btf(name, btf)))
}

/// A kernel whose BTF is given: its generator is the one that the BTF points to.
pub fn of_btf(name: &str, btf: Btf) -> Result<Kernel, BtfError> {
    Ok(Kernel {
        name: name.to_owned(),
        generator: Generator::of_btf(&btf),
        btf,
        attachment: AttachmentLayout::read(&Btf::parse(LINK_OWNED)?)?,
    })
}
