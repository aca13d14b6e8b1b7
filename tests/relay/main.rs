//! The relay as a client sees it: real sockets on loopback, a strict client, targets that do as they are told.
//!
//! One file per section of the conformance statements; `cNN_…` tests statement C-NN.

#[cfg(test)]
mod support;

#[cfg(test)]
mod fixture;

#[cfg(test)]
mod setup;
