//! The room as pure state, and what a person may type.

pub mod command;
pub mod legacy;
pub mod room;
