//! The log of Apple's client: its framings, its grammar, what it tells of a relay.

pub mod framing;
pub mod grammar;
pub mod lines;
