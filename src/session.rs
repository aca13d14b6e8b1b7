//! One client's connection.

pub mod desk;
pub mod h3;
