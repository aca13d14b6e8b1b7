//! The QUIC side.
