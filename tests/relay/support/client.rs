//! The client of the tests: one may ask it as often as one likes, over any version.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
};

use masque_relay::{
    probe::{self, Closer, Http, Options, ProbeError, RawExchange, TcpTunnel, UdpTunnel},
    proto::head::Head,
};

/// A connection to a relay. Over HTTP/1.1, which carries one request on each, as many connections as there are requests.
pub(crate) struct Client {
    first: probe::Client,
    /// Those behind the first. They live as long as this, whatever tunnels are held.
    more: Mutex<Vec<probe::Client>>,
    closers: Closers,
}

/// What closes every connection of every client.
#[derive(Clone, Default)]
pub(crate) struct Closers(Arc<Mutex<Vec<Closer>>>);

impl Client {
    pub(super) async fn open(options: Options, closers: Closers) -> Result<Self, ProbeError> {
        Ok(Self { first: closers.open(options).await?, more: Mutex::default(), closers })
    }

    /// See [`probe::Client::exchange`]. There is no second time for [`ProbeError::UsedUp`].
    pub(crate) async fn exchange(&self) -> Result<RawExchange, ProbeError> {
        match self.first.exchange().await {
            Err(ProbeError::UsedUp) => {
                let another = self.closers.open(self.again()).await?;
                let exchange = another.exchange().await;
                self.more.lock().unwrap_or_else(PoisonError::into_inner).push(another);
                exchange
            }
            exchange => exchange,
        }
    }

    /// See [`probe::Client::request`].
    pub(crate) async fn request(&self, head: &Head) -> Result<RawExchange, ProbeError> {
        let mut exchange = self.exchange().await?;
        exchange.send_head(head).await.map_err(ProbeError::Unanswered)?;
        Ok(exchange)
    }

    /// See [`probe::Client::connect_tcp`].
    pub(crate) async fn connect_tcp(&self, authority: &str) -> Result<TcpTunnel, ProbeError> {
        self.request(&self.options().tcp_head(authority)).await?.tcp().await
    }

    /// See [`probe::Client::connect_udp`].
    pub(crate) async fn connect_udp(&self, host: &str, port: u16) -> Result<UdpTunnel, ProbeError> {
        if self.http() == Http::H1 {
            return self.request(&self.options().udp_head(host, port)).await?.udp().await;
        }
        self.first.connect_udp(host, port).await
    }

    /// See [`probe::Client::close`]; over HTTP/1.1 all connections there are.
    pub(crate) fn close(&self, code: u64, reason: &[u8]) {
        self.first.close(code, reason);
        for client in self.more.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            client.close(code, reason);
        }
    }

    /// See [`probe::Client::shut`].
    pub(crate) async fn shut(self) {
        self.first.shut().await;
    }
}

impl Deref for Client {
    type Target = probe::Client;

    fn deref(&self) -> &probe::Client {
        &self.first
    }
}

impl Closers {
    async fn open(&self, options: Options) -> Result<probe::Client, ProbeError> {
        let client = probe::Client::open(options).await?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(client.closer());
        Ok(client)
    }

    /// Closes them all. One that is closed already stays as it was.
    pub(super) fn close(&self) {
        for client in self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // H3_NO_ERROR.
            client.close(0x100, b"");
        }
    }
}
