//! A relay for the probe's own tests: bare QUIC, every HTTP/3 byte of it the test's.

pub(super) mod tcp;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::{SupportedProtocolVersion, pki_types::PrivateKeyDer};

use super::{Client, Http, Options};
use crate::proto::{
    frame,
    head::Head,
    qpack,
    settings::{ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM, Settings},
};

/// A QUIC server on loopback.
pub(super) struct Fake {
    endpoint: quinn::Endpoint,
    root: Vec<u8>,
}

impl Fake {
    /// Offers ALPN `h3`, tickets, and 0-RTT if told so.
    pub(super) fn start(early_data: bool) -> Self {
        let (mut tls, root) = tls(&[&rustls::version::TLS13], &[b"h3"]);
        tls.max_early_data_size = if early_data { u32::MAX } else { 0 };
        let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let endpoint = quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self { endpoint, root }
    }

    /// Options that trust it.
    pub(super) fn options(&self) -> Options {
        options(self.endpoint.local_addr().unwrap(), &self.root, Http::H3)
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> quinn::Connection {
        self.endpoint.accept().await.unwrap().await.unwrap()
    }

    /// A client and its connection as seen from here.
    pub(super) async fn pair(&self, options: Options) -> (Client, quinn::Connection) {
        let (client, connection) = tokio::join!(Client::open(options), self.accept());
        (client.unwrap(), connection)
    }

    /// The same, with a control stream and SETTINGS as a good relay sends them. The control stream must be held.
    pub(super) async fn good_pair(&self, options: Options) -> (Client, quinn::Connection, quinn::SendStream) {
        let (client, connection) = self.pair(options).await;
        let control = uni(&connection, &control(&good_settings())).await;
        client.settings().await.unwrap();
        (client, connection, control)
    }
}

/// A server's TLS with a certificate of its own, and the certificate.
fn tls(versions: &[&'static SupportedProtocolVersion], alpn: &[&[u8]]) -> (rustls::ServerConfig, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(vec!["relay.test".into()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = alpn.iter().map(|alpn| alpn.to_vec()).collect();
    (tls, made.cert.pem().into_bytes())
}

/// Options that trust `root`.
fn options(address: SocketAddr, root: &[u8], http: Http) -> Options {
    let mut options = Options::new(address, "relay.test");
    options.http = http;
    options.trust_pem(root).unwrap();
    options.timeout = Duration::from_secs(2);
    options.patience = Some(Duration::from_secs(2));
    options
}

/// What a relay of CONNECT-UDP announces.
pub(super) fn good_settings() -> Vec<u8> {
    frame::encode(frame::SETTINGS, &Settings(vec![(ENABLE_CONNECT_PROTOCOL, 1), (H3_DATAGRAM, 1)]).encode())
}

/// A control stream's bytes: its type, then `frames`.
pub(super) fn control(frames: &[u8]) -> Vec<u8> {
    [&[0], frames].concat()
}

/// A HEADERS frame with these fields.
pub(super) fn head(fields: &[(&'static str, &'static str)]) -> Vec<u8> {
    let mut head = Head::default();
    for (name, value) in fields {
        head.push(*name, *value);
    }
    frame::encode(frame::HEADERS, &qpack::encode(&head))
}

/// A new unidirectional stream that starts with `bytes`.
pub(super) async fn uni(connection: &quinn::Connection, bytes: &[u8]) -> quinn::SendStream {
    let mut stream = connection.open_uni().await.unwrap();
    stream.write_chunk(Bytes::copy_from_slice(bytes)).await.unwrap();
    stream
}
