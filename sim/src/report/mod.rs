//! What people and programs read: tables, traces, JSON, listings. No engine is known here.

pub mod compare;
pub mod cost;
pub mod describe;
pub mod explain;
pub mod history;
pub mod json;
pub mod junit;
pub mod list;
pub mod mail;
pub mod matrix;
pub mod names;
pub mod reach;
pub mod screen;
pub mod side;
pub mod summary;
pub mod text;
pub mod trace;
