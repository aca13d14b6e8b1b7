//! The relay as a client sees it: real sockets on loopback, a strict client, targets that do as they are told.
//!
//! One file per section of the conformance statements; `cNN_…` tests statement C-NN.

#[cfg(test)]
#[expect(dead_code, reason = "written for the sections to come")]
mod support;

#[cfg(test)]
mod fixture;

#[cfg(test)]
mod chain;

#[cfg(test)]
mod churn;

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod moves;

#[cfg(test)]
mod requests;

#[cfg(test)]
mod setup;

#[cfg(test)]
mod tunnels;
