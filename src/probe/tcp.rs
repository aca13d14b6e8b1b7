//! TLS over TCP, for HTTP/2 and HTTP/1.1.

use std::{net::SocketAddr, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    Http, ProbeError,
    shared::{Shared, within},
};

/// What HTTP/2 and HTTP/1.1 stand on.
pub(super) type Stream = TlsStream<TcpStream>;

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
        TlsConnector::from(tls).connect(name, tcp).await
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
