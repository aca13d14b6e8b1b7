//! The relay as a client sees it: real sockets on loopback, a strict client, targets that do as they are told.
//!
//! One file per section of the conformance statements; `cNN_…` tests statement C-NN: on HTTP/3, or, as `cNN_…::h2`, on the version
//! it is called after.

#[cfg(test)]
mod support;

#[cfg(test)]
mod fixture;

#[cfg(test)]
mod answers;

#[cfg(test)]
mod chain;

#[cfg(test)]
mod churn;

#[cfg(test)]
mod connection;

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod moves;

#[cfg(test)]
mod recognition;

#[cfg(test)]
mod targets;

#[cfg(test)]
mod datagrams;

#[cfg(test)]
mod capsules;

#[cfg(test)]
mod udp;

#[cfg(test)]
mod tcp;

#[cfg(test)]
mod lifecycle;

#[cfg(test)]
mod record;

#[cfg(test)]
mod admin;

#[cfg(test)]
mod h2;

#[cfg(test)]
mod h1;

#[cfg(test)]
mod tls;

#[cfg(test)]
mod certificates;

#[cfg(test)]
mod hello;

#[cfg(test)]
mod reload;

#[cfg(test)]
mod revocation;

#[cfg(test)]
mod apple;

#[cfg(test)]
mod bisect;

#[cfg(test)]
mod trips;

#[cfg(test)]
mod faults;

#[cfg(test)]
mod workers;

#[cfg(test)]
mod fairness;
