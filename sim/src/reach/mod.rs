//! Who can know its scheduler, explored: the machine of `struct_ops_model::reach` as a system for the engine, the
//! small universes behind the table, and scenario files.
//!
//! Not the facts and not the machine: those are in the model. Not the tables for people: `report::reach`.

pub mod action;
mod check;
mod explored;
pub mod table;
mod universe;

pub use check::check;
pub use explored::{Event, Explored, Outcome, explore};
pub use struct_ops_model::reach::World as ModelWorld;
pub use table::{Cell, Verdict, cell, cells, programs};
pub use universe::{Help, universe};
