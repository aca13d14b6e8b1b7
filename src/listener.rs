//! Sockets towards clients, and who is let in.

mod pace;
pub mod quic;
mod socket;
pub mod tcp;

pub use pace::Pace;
