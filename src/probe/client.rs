//! One connection to a relay.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Closed, Http, Options, ProbeError, RawExchange, RecvHalf, SendHalf, TcpTunnel, UdpTunnel, Violation, h1, h2, h3,
    shared::{Shared, within},
    stream::{Receiving, Sending},
    tcp,
};
use crate::proto::{
    head::Head,
    settings::{ENABLE_CONNECT_PROTOCOL, Settings},
};

/// A connection to a relay. It lives as long as this, whatever tunnels are held.
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    link: Link,
    /// Ours and the relay's address, as they were at first.
    local: SocketAddr,
    remote: SocketAddr,
    started: Instant,
    handshake: Duration,
}

/// The connection itself, by version.
#[derive(Debug)]
pub(super) enum Link {
    H1(h1::Link),
    H2(h2::Link),
    H3(h3::Link),
}

/// Closes a client's connection, also where somebody else has the [`Client`].
#[derive(Clone, Debug)]
pub struct Closer(Ending);

#[derive(Clone, Debug)]
enum Ending {
    H1(Arc<h1::Pipe>),
    H2(h2::Cut),
    H3(quinn::Connection),
}

/// When things came, counted from the first packet of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingsTiming {
    /// The handshake was complete.
    pub handshake: Duration,
    /// The relay's SETTINGS were there.
    pub settings: Duration,
}

impl Client {
    /// Connects to the first of the addresses that answers, by [`Options::http`]. Over HTTP/3 it opens the control stream and, unless withheld, sends
    /// SETTINGS; over HTTP/2 SETTINGS always go out.
    ///
    /// Does not wait for the relay's SETTINGS: [`Self::settings`] does. With 0-RTT data, which is HTTP/3's, it does not wait for the handshake
    /// either; a relay that rejects the data makes all its streams end.
    pub async fn open(mut options: Options) -> Result<Self, ProbeError> {
        let tls = options.tls()?;
        // The first randomness a process draws takes tens of milliseconds, which must not be read as the relay's. (Should there be none, TLS says so.)
        aws_lc_rs::rand::fill(&mut [0]).ok();
        let mut last = ProbeError::Options("an empty list of addresses");
        for address in options.addresses.clone() {
            match Self::open_at(address, &tls, Arc::new(Shared::new(options.clone()))).await {
                Ok(client) => return Ok(client),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// What it was told.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// Which HTTP it speaks.
    pub fn http(&self) -> Http {
        self.options().http
    }

    /// How long the handshake took, from its first packet until it was complete on our side; over TCP from the SYN on.
    pub fn handshake(&self) -> Duration {
        self.handshake
    }

    /// Options for another connection to the same relay that resumes this one's TLS session.
    pub fn again(&self) -> Options {
        self.options().clone()
    }

    /// Whether a ticket let us send 0-RTT data, accepted or not; never over TCP.
    pub fn early_data(&self) -> bool {
        matches!(&self.link, Link::H3(link) if link.early_data())
    }

    /// The relay's SETTINGS; waits for them. HTTP/2's, with its own identifiers, of all SETTINGS frames so far; HTTP/1.1 has none.
    pub async fn settings(&self) -> Result<Settings, ProbeError> {
        if self.http() == Http::H1 {
            return Err(ProbeError::Missing { http: Http::H1, what: "SETTINGS" });
        }
        self.shared.wait_for("SETTINGS", Some(self.options().timeout), |state| state.settings.clone()).await
    }

    /// When the relay's SETTINGS came; `None` before.
    pub fn settings_timing(&self) -> Option<SettingsTiming> {
        let at = self.shared.state.borrow().settings_at?;
        Some(SettingsTiming { handshake: self.handshake, settings: at - self.started })
    }

    /// The identifiers of the GOAWAY frames so far (RFC 9114 §5.2); over HTTP/2 the last stream of each (RFC 9113 §6.8).
    pub fn goaways(&self) -> Vec<u64> {
        self.shared.state.borrow().goaways.clone()
    }

    /// Waits for the `nth` GOAWAY, counted from 1, and gives its identifier.
    pub async fn goaway(&self, nth: usize) -> Result<u64, ProbeError> {
        let at = nth.saturating_sub(1);
        self.shared.wait_for("GOAWAY", self.options().patience, |state| state.goaways.get(at).copied()).await
    }

    /// Waits until the connection is over, and says how. Over HTTP/2 the code and the reason (debug data) are those of the last GOAWAY, if one came.
    /// Over HTTP/1.1 an exchange must be read for its end to be seen.
    pub async fn closed(&self) -> Result<Closed, ProbeError> {
        let closed = self.shared.wait_for("the connection's end", None, |state| state.closed.clone());
        let wait = async {
            match &self.link {
                Link::H1(link) => tokio::select! {
                    biased;
                    closed = closed => closed,
                    () = link.watch() => self.shared.state.borrow().closed.clone().ok_or(ProbeError::UsedUp),
                },
                _ => closed.await,
            }
        };
        match within(self.options().patience, wait).await {
            Ok(closed) => closed,
            Err(after) => Err(ProbeError::TimedOut { what: "the connection's end", after }),
        }
    }

    /// The first rule the relay broke.
    pub fn violation(&self) -> Option<Violation> {
        self.shared.state.borrow().violation.clone()
    }

    /// Opens a tunnel to `authority`, `host:port`, by classic CONNECT.
    pub async fn connect_tcp(&self, authority: &str) -> Result<TcpTunnel, ProbeError> {
        self.request(&self.options().tcp_head(authority)).await?.tcp().await
    }

    /// Opens a tunnel to `host` and `port` by CONNECT-UDP: over HTTP/3 and HTTP/2 by extended CONNECT, once the relay's SETTINGS allow it
    /// (RFC 9220 §3, RFC 8441 §3), over HTTP/1.1 by an upgrade (RFC 9298 §3.2).
    pub async fn connect_udp(&self, host: &str, port: u16) -> Result<UdpTunnel, ProbeError> {
        if self.http() != Http::H1 && self.settings().await?.get(ENABLE_CONNECT_PROTOCOL) != Some(1) {
            return Err(ProbeError::Unsupported("SETTINGS_ENABLE_CONNECT_PROTOCOL"));
        }
        self.request(&self.options().udp_head(host, port)).await?.udp().await
    }

    /// Sends `head` on a new stream and gives the exchange, without waiting for an answer nor for SETTINGS; see
    /// [`SendHalf::send_head`] for what can be sent.
    pub async fn request(&self, head: &Head) -> Result<RawExchange, ProbeError> {
        let mut exchange = self.exchange().await?;
        exchange.send_head(head).await.map_err(ProbeError::Unanswered)?;
        Ok(exchange)
    }

    /// A new request stream on which nothing was sent yet. Over HTTP/1.1 it is the connection: [`ProbeError::UsedUp`] the second time.
    pub async fn exchange(&self) -> Result<RawExchange, ProbeError> {
        let (send, recv, quic) = match &self.link {
            Link::H1(link) => {
                let (send, recv) = link.exchange()?;
                (Sending::H1(send), Receiving::H1(recv), None)
            }
            Link::H2(link) => {
                let (send, recv) = link.exchange().await?;
                (Sending::H2(send), Receiving::H2(recv), None)
            }
            Link::H3(link) => {
                let (send, recv) = link.exchange().await?;
                (Sending::H3(send), Receiving::H3(recv), Some(link.quic.clone()))
            }
        };
        Ok(RawExchange::new(SendHalf(send), RecvHalf(recv), quic))
    }

    /// The relay's address.
    pub fn remote_addr(&self) -> SocketAddr {
        self.remote
    }

    /// The local address now.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.link {
            Link::H3(link) => link.endpoint.local_addr(),
            _ => Ok(self.local),
        }
    }

    /// Closes the connection at once, with an application code; over TCP nothing but the end of TCP tells the relay.
    pub fn close(&self, code: u64, reason: &[u8]) {
        self.closer().close(code, reason);
    }

    /// What closes this connection.
    pub fn closer(&self) -> Closer {
        Closer(match &self.link {
            Link::H1(link) => Ending::H1(link.pipe()),
            Link::H2(link) => Ending::H2(link.cut()),
            Link::H3(link) => Ending::H3(link.quic.connection.clone()),
        })
    }

    /// Closes the connection in order and waits until the relay has been told: with H3_NO_ERROR, and until the draining time is over; with GOAWAY and
    /// close_notify, unless a tunnel is still held; with close_notify.
    pub async fn shut(mut self) {
        match &mut self.link {
            Link::H1(link) => link.shut().await,
            Link::H2(link) => link.shut().await,
            Link::H3(link) => {
                h3::close(&link.quic.connection, h3::NO_ERROR, b"");
                link.endpoint.wait_idle().await;
            }
        }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    async fn open_at(address: SocketAddr, tls: &Arc<rustls::ClientConfig>, shared: Arc<Shared>) -> Result<Self, ProbeError> {
        let started = Instant::now();
        let (link, handshake, local) = if shared.options.http == Http::H3 {
            let connected = h3::Link::connect(address, tls.clone(), &shared).await?;
            let handshake = started.elapsed();
            let link = h3::Link::begin(connected, shared.clone()).await?;
            // Only `local_addr` knows where a client of QUIC is.
            (Link::H3(link), handshake, address)
        } else {
            let stream = tcp::connect(address, tls.clone(), &shared).await?;
            let handshake = started.elapsed();
            let local = stream.get_ref().0.get_ref().local_addr().map_err(|source| ProbeError::ConnectTcp { address, source })?;
            let link = if shared.options.http == Http::H2 {
                Link::H2(h2::Link::begin(stream, shared.clone()).await?)
            } else {
                Link::H1(h1::Link::begin(stream, shared.clone()))
            };
            (link, handshake, local)
        };
        Ok(Self { shared, link, local, remote: address, started, handshake })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close(h3::NO_ERROR, b"");
    }
}

impl Closer {
    /// See [`Client::close`]. One that is closed already stays as it was.
    pub fn close(&self, code: u64, reason: &[u8]) {
        match &self.0 {
            Ending::H1(pipe) => pipe.close(),
            Ending::H2(cut) => cut.close(),
            Ending::H3(connection) => h3::close(connection, code, reason),
        }
    }
}
