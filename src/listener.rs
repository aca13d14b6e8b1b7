//! Sockets towards clients, and who is let in.

mod grease;
pub mod hello;
mod pace;
pub mod quic;
mod socket;
pub mod spare;
mod strangers;
pub mod tcp;

pub use hello::Seen;
pub use pace::Pace;
