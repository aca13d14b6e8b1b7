//! Arguments and help.

pub mod report;
