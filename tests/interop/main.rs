//! The relay binary between foreign clients and real servers, every one a process of its own.
//!
//! ```text
//! aioquic ─── HTTP/3 ────┐
//! h2 ──────── HTTP/2 ────┤
//! Chromium ── HTTP/2 ────┼─▶ masque-relay serve ── TCP, UDP ──▶ nginx, dnsmasq, aioquic, echo
//! curl ────── HTTP/1.1 ──┘
//! ```
//!
//! `tests/run` installs what this needs: the Debian packages of clients and servers, and the Python
//! environment `target/interop-venv` with aioquic, h2 and Envoy.

#![expect(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod child;
mod chromium;
mod curl;
mod echo;
mod envoy;
mod python;
mod relay;
mod servers;
