//! Sockets towards clients, and who is let in.

pub mod quic;
pub mod tcp;
