//! A MASQUE relay: CONNECT for TCP and CONNECT-UDP (RFC 9298) for UDP, over HTTP/3, HTTP/2 and HTTP/1.1.
//!
//! # The life of a request
//!
//! | step | takes | gives | says no with |
//! | --- | --- | --- | --- |
//! | [`listener`] | a QUIC packet, or a TCP connection | an accepted connection | Retry, refuse, a TLS alert |
//! | [`session`] | the connection | an exchange: one request and its streams, until it is over | stream or connection error |
//! | [`request`] | a head | `Request`, what is asked | `Refusal::Malformed` |
//! | [`policy`] | `Request` and client | `Permit`, leave to reach one target | `Refusal::{Unauthenticated, Unsupported, Denied, LimitReached}` |
//! | [`upstream`] | `Permit` | a connected socket | `Refusal::{Unresolvable, ProhibitedAddress, Unreachable, TimedOut}` |
//! | [`tunnel`] | exchange and socket | `Ended`, the one reason it is over | – |
//!
//! # House rules
//!
//! The order of the modules below is the architecture: a module uses only modules above it, and
//! `tests/architecture.rs` keeps it so. Inside one, files may use each other. Bytes from the network are hostile:
//! every buffer, queue, table and wait has a bound. No task is without an owner that waits for it.

// Bytes on the wire, no I/O.
pub mod proto;

// The few system calls that need `unsafe`.
pub mod sys;

// Every "no" and how it looks on the wire.
pub mod refusal;

// Every end of a tunnel or a connection.
pub mod ended;

// Counters, and gauges as guards.
pub mod metrics;

// The named ways to misbehave, as plain values.
pub mod fault;

// From what was seen to what it means: findings, and hypotheses with what settles them.
pub mod diagnosis;

// Configuration as meant, and as written.
pub mod config;

// Certificates: load, check, make.
pub mod certs;

// What devices are told about a relay: profiles, declarations, Swift.
pub mod profile;

// What the client asks for.
pub mod request;

// What happened on a connection: kept, bounded, without secrets.
pub mod record;

// Whether it may.
pub mod policy;

// Where it goes: names resolved, addresses vetted, sockets connected.
pub mod upstream;

// Bytes both ways, until one reason ends it.
pub mod tunnel;

// Sockets towards clients, and who is let in.
pub mod listener;

// One client's connection.
pub mod session;

// The running relay, asked about itself over a Unix socket.
pub mod admin;

// From a configuration to a running relay, and its orderly end.
pub mod server;

// A small strict client, for the `probe` command, the tests and the benches.
pub mod probe;

// The log of Apple's client: its framings, its grammar, what it tells of a relay.
pub mod explain;

// Arguments, help, and how errors are shown.
pub mod cli;
