//! Sockets towards clients, and who is let in.

mod grease;
mod pace;
pub mod quic;
mod socket;
pub mod tcp;

pub use pace::Pace;
