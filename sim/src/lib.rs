//! Explores, replays and explains how BPF struct_ops programs are attached: scenario files, engines,
//! reports and the command line around the model of `struct_ops_model`.

pub mod engine;
pub mod explore;
pub mod scenario;
