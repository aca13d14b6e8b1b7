//! TLS over TCP to a relay, for bytes that no client library would send.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{NAME, Relay, within};

/// A TLS connection to `relay` that offers these application protocols; none: no ALPN.
pub(crate) async fn connect(relay: &Relay, alpn: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(relay.ca().as_bytes()).expect("PEM")).expect("a CA");
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS 1.3 and 1.2")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(relay.address()).await?;
    stream.set_nodelay(true)?;
    within("TLS", TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME).expect("a name"), stream)).await
}

/// An HTTP/1.1 exchange of bytes: sends `text`, and gives what comes until the relay has nothing more to say.
pub(crate) async fn exchange(relay: &Relay, text: &str) -> String {
    let mut stream = connect(relay, &["http/1.1"]).await.expect("a TLS connection");
    stream.write_all(text.as_bytes()).await.expect("it is sent");
    let mut answer = Vec::new();
    within("the whole answer", stream.read_to_end(&mut answer)).await.expect("a clean end");
    String::from_utf8_lossy(&answer).into_owned()
}
