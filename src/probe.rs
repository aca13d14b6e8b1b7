//! A small strict HTTP/3 client on raw quinn, with its own framing: for the `probe` command, the tests, the benches and later `doctor`.
//!
//! ```text
//! Options ──▶ Client::open ──▶ connect_tcp ──▶ TcpTunnel   send, recv, finish, reset, stop
//!                         ├──▶ connect_udp ──▶ UdpTunnel   send (DATAGRAM), send_capsule, recv (which means)
//!                         └──▶ request ──────▶ RawExchange whatever a test needs, also what is wrong
//! ```
//!
//! Three promises:
//!
//! 1. *Strict.* A relay that breaks a rule of RFC 9114, 9204 or 9297 that this client can see ends the connection with the right code, and
//!    every wait says which rule it was.
//! 2. *No wait is for ever*: [`Options::timeout`] and [`Options::patience`] bound each, and every queue has an end.
//! 3. *Nothing is left behind.* Dropping a [`Client`] closes its connection with H3_NO_ERROR and ends its tasks; dropping a half of a
//!    stream resets or stops it with H3_REQUEST_CANCELLED unless it is over.

mod client;
mod control;
mod datagrams;
mod error;
mod exchange;
mod options;
mod pin;
mod shared;
mod stream;
mod tickets;
mod tunnel;
mod url;

pub use client::{Client, SettingsTiming};
pub use control::Control;
pub use datagrams::STRAYS_KEPT;
pub use error::{Closed, Layer, ProbeError, Refused, StreamEnd, Violation};
pub use exchange::{Answer, RawExchange};
pub use options::{Options, SettingsWhen};
pub use stream::{RecvHalf, SendHalf};
pub use tickets::{MAX_TICKETS, Tickets};
pub use tunnel::{Means, Packet, TcpTunnel, UdpTunnel};

/// Opens a connection to the relay at `https://HOST[:PORT][/TEMPLATE]`; `change` gets the options before they are used, to add trust and
/// credentials.
///
/// # Errors
/// Those of [`Options::resolve`], of `change`, and of [`Client::open`].
pub async fn connect_url(url: &str, change: impl FnOnce(&mut Options) -> Result<(), ProbeError>) -> Result<Client, ProbeError> {
    let mut options = Options::resolve(url).await?;
    change(&mut options)?;
    Client::open(options).await
}
