//! TLS over TCP, for HTTP/2 and HTTP/1.1.

use std::{net::SocketAddr, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::BufReader,
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    Http, ProbeError,
    shared::{Shared, within},
};

/// What HTTP/2 and HTTP/1.1 stand on. TLS by itself would read 4 KiB at a time.
pub(super) type Stream = TlsStream<BufReader<TcpStream>>;

/// TCP, TLS, and a look at what ALPN gave.
pub(super) async fn connect(address: SocketAddr, tls: Arc<ClientConfig>, shared: &Shared) -> Result<Stream, ProbeError> {
    let options = &shared.options;
    let name = ServerName::try_from(options.server_name.clone()).map_err(|_| ProbeError::Options("the server name"))?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let bind = |source| ProbeError::Bind { address: options.local(address), source };
    let socket = socket.map_err(bind)?;
    if let Some(local) = options.bind {
        socket.bind(local).map_err(bind)?;
    }
    let connect = async {
        let tcp = socket.connect(address).await?;
        // Capsules are small, and each is waited for.
        tcp.set_nodelay(true)?;
        TlsConnector::from(tls).connect(name, BufReader::with_capacity(AHEAD, tcp)).await
    };
    let stream = match within(Some(options.timeout), connect).await {
        Ok(connected) => connected.map_err(|source| ProbeError::ConnectTcp { address, source })?,
        Err(after) => return Err(ProbeError::TimedOut { what: "the handshake", after }),
    };
    match (options.http, stream.get_ref().1.alpn_protocol()) {
        // HTTP/1.1 is what a server without ALPN speaks.
        (Http::H1, None) => Ok(stream),
        (http, Some(chosen)) if chosen == http.alpn() => Ok(stream),
        (http, _) => Err(ProbeError::Alpn { http }),
    }
}

/// Bytes received at once.
const AHEAD: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Client, fake::tcp::TcpFake};

    #[tokio::test]
    async fn tls_is_as_strict_as_it_is_told() {
        let fake = TcpFake::start_as(Http::H2, &[&rustls::version::TLS12], &[b"h2"]).await;
        let (_client, stream) = fake.pair().await;
        assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));

        let fake = TcpFake::start_as(Http::H2, &[&rustls::version::TLS13], &[]).await;
        let (client, _stream) = tokio::join!(Client::open(fake.options()), fake.accept());
        assert!(matches!(client, Err(ProbeError::Alpn { http: Http::H2 })));

        let fake = TcpFake::start(Http::H2).await;
        let mut options = fake.options();
        options.server_name = "other.test".into();
        let (client, stream) = tokio::join!(Client::open(options), fake.accept());
        assert!(matches!(client, Err(ProbeError::ConnectTcp { .. })) && stream.is_err());
        let mut options = fake.options();
        options.roots.clear();
        let (client, stream) = tokio::join!(Client::open(options), fake.accept());
        assert!(matches!(client, Err(ProbeError::ConnectTcp { .. })) && stream.is_err());
    }

    #[tokio::test]
    async fn a_pinned_leaf_is_trusted_and_no_other() {
        for (versions, version) in
            [(&rustls::version::TLS13, rustls::ProtocolVersion::TLSv1_3), (&rustls::version::TLS12, rustls::ProtocolVersion::TLSv1_2)]
        {
            let fake = TcpFake::start_as(Http::H2, &[versions], &[b"h2"]).await;
            let leaf = fake.options().roots[0].clone();
            let mut options = fake.options();
            (options.roots, options.server_name) = (Vec::new(), "other.test".into());
            options.pin(leaf.clone());
            let (_client, stream) = fake.pair_with(options).await;
            assert_eq!(stream.get_ref().1.protocol_version(), Some(version));

            let other = TcpFake::start(Http::H2).await;
            let mut options = other.options();
            options.pin(leaf);
            let (client, stream) = tokio::join!(Client::open(options), other.accept());
            assert!(matches!(client, Err(ProbeError::ConnectTcp { .. })) && stream.is_err());
        }
    }
}
