//! Engines, scenarios and reports around the model.
pub mod engine;
pub mod explore;
