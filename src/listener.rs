//! Sockets towards clients, and who is let in.

pub mod hello;
mod pace;
pub mod quic;
mod socket;
pub mod tcp;

pub use hello::Seen;
pub use pace::Pace;
