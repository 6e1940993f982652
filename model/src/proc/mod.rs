//! The procedures: one file per kernel function or family, one `match` arm per step.

pub(crate) mod attachment;
pub(crate) mod call;
pub(crate) mod link;
pub(crate) mod link_create;
pub(crate) mod link_detach;
pub(crate) mod link_update;
pub(crate) mod map;
pub(crate) mod map_free;
pub(crate) mod map_update;
pub(crate) mod prepare;
pub(crate) mod syscall;
