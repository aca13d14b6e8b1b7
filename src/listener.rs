//! Sockets towards clients, and who is let in.

pub mod quic;
mod socket;
