//! Explores, replays and explains how BPF struct_ops programs are attached: scenario files, engines,
//! reports and the command line around the model of `struct_ops_model`.

pub mod action;
pub mod bounds;
pub mod btf;
pub mod campaign;
pub mod check;
pub mod cli;
pub mod cost;
pub mod counterexample;
mod draw;
pub mod engine;
pub mod explore;
pub mod history;
pub mod input;
pub mod live;
pub mod merge;
pub mod number;
pub mod random;
pub mod reach;
pub mod report;
pub mod scenario;
pub mod schedule;
pub mod serve;
pub mod shipped;
pub mod trace;
pub mod tracefile;
pub mod tramp;
pub mod verdict;
pub mod view;
pub mod walk;
