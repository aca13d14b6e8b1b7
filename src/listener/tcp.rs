//! The TCP side: sockets on QUIC's port numbers, admission, and the TLS handshake that says which HTTP it will be.

mod wire;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Seen;
use crate::{
    certs::Tls,
    policy::limits::{ConnectionSlots, Limits},
    record::Records,
};
pub use wire::{Counted, Outbox, Wire};

/// Connections the kernel completes before the relay has taken them.
const BACKLOG: i32 = 1024;
/// How long no connection is accepted after the system ran out of descriptors or memory.
const RECOVERY: Duration = Duration::from_millis(100);
/// A client that is silent for so long is asked whether it is there, and again and again at [`ASK_AGAIN`]; it is gone if it does not answer.
const ASK_AFTER: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_secs(15);

/// A TCP socket for clients.
pub fn bind(address: SocketAddr, share_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `[::]` listens on IPv4 too, `[::1]` cannot.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // Connections of the relay that ran before must not keep this one from starting.
    socket.set_reuse_address(true)?;
    if share_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Lets clients in until `draining`; each goes to `admit`, or is closed at once.
pub async fn accept(
    listener: tokio::net::TcpListener,
    limits: Arc<Limits>,
    records: Arc<Records>,
    draining: CancellationToken,
    mut admit: impl FnMut(TcpStream, SocketAddr, ConnectionSlots),
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = draining.cancelled() => return,
        };
        match accepted {
            Ok((stream, source)) => match limits.connection(source.ip()) {
                Ok(slots) => match prepare(&stream) {
                    Ok(()) => admit(stream, source, slots),
                    Err(error) => debug!(%source, %error, "a connection could not be accepted"),
                },
                Err(why) => {
                    debug!(%source, why, "a connection was refused");
                    records.turn_away(source, &format!("limit reached: {why}"));
                }
            },
            Err(error) if is_the_clients(&error) => debug!(%error, "a connection was gone before it was accepted"),
            Err(error) => {
                warn!(%error, "no connection can be accepted for the moment");
                tokio::select! {
                    () = sleep(RECOVERY) => {}
                    () = draining.cancelled() => return,
                }
            }
        }
    }
}

/// What every client's socket is set to: nothing waits for more to send, and one that is gone is found out.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(ASK_AFTER).with_interval(ASK_AGAIN))?;
    // No TCP_USER_TIMEOUT: it would end a client too that is there and does not read for a while (a closed window counts as silence).
    Ok(())
}

/// accept(2): errors of the connection that was to be accepted, which the next one need not share.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted | Kind::HostUnreachable | Kind::NetworkUnreachable
    )
}

/// A client's TLS stream.
pub type Stream = TlsStream<Wire>;

/// What a client speaks above TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// HTTP/1.1
    One,
    /// HTTP/2
    Two,
}

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The handshake failed, with an alert where TLS has one.
    #[error("{0}")]
    Handshake(#[from] io::Error),
    /// A client without ALPN speaks HTTP/1.1 (RFC 9113 §3.2), which is not served.
    #[error("the client offers no ALPN, so it speaks HTTP/1.1, and `http1` is off")]
    NoAlpn,
}

/// The TLS handshake; `seen` is filled on the way. Everything else about time is the caller's.
pub async fn handshake(stream: TcpStream, tls: &Tls, seen: &Seen) -> Result<(Stream, Outbox, Http), TlsError> {
    let http1 = tls.certificate.alpn_protocols.iter().any(|name| name == b"http/1.1");
    let (wire, outbox) = Wire::new(stream, Some(seen.clone()));
    let mut start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), wire).await?;
    if start.client_hello().alpn().is_none() && !http1 {
        start.io.write_all(&NO_APPLICATION_PROTOCOL).await?;
        start.io.shutdown().await?;
        return Err(TlsError::NoAlpn);
    }
    let tls = if seen.prefers_raw_key() { &tls.raw_key } else { &tls.certificate };
    let stream = start.into_stream(Arc::clone(tls)).await?;
    let http = if stream.get_ref().1.alpn_protocol() == Some(b"h2") { Http::Two } else { Http::One };
    Ok((stream, outbox, http))
}

/// How a client's connection broke, in words: the library's own send the reader to its documentation.
pub fn broke(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ended without the end that TLS has for it".into(),
        _ => error.to_string(),
    }
}

/// The fatal alert 120 (RFC 7301 §3.2) as a record of its own (RFC 8446 §5.1, §6): rustls sends it only for names that do not match.
const NO_APPLICATION_PROTOCOL: [u8; 7] = [21, 3, 3, 0, 2, 2, 120];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_does_not_stop_the_others() {
        for (number, clients) in [(libc::ECONNABORTED, true), (libc::EHOSTUNREACH, true), (libc::EMFILE, false), (libc::ENOBUFS, false)] {
            assert_eq!(is_the_clients(&io::Error::from_raw_os_error(number)), clients, "{number}");
        }
    }
}
