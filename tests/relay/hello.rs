//! What a client offers is kept, whatever becomes of its handshake; and a client that asks for a raw public key gets it (RFC 7250).

use std::{net::Ipv4Addr, sync::Arc};

use masque_relay::{
    probe::{Client, Http},
    proto::hello::Hello,
};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::{ClientConfig, crypto::aws_lc_rs, pki_types::ServerName};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::TlsConnector;

use crate::support::{NAME, Relay, tcp::TcpEcho, tls::RawKey, tunnels::assert_works, within};

fn offered(record: &masque_relay::diagnosis::Record) -> Option<Hello> {
    record.hello.as_deref().cloned()
}

#[tokio::test]
async fn what_a_client_offers_is_kept_on_every_version() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    for (http, version, front, alpn) in [(Http::H3, 3, "q13d", "h3"), (Http::H2, 2, "t13d", "h2"), (Http::H1, 1, "t13d", "http/1.1")] {
        assert_works(&relay.client_over(http).await, &echo).await;
        let record = relay.recorded("the offer", |record| record.http == Some(version) && record.hello.is_some()).await;
        let hello = offered(&record).unwrap();
        assert!(hello.ja4.starts_with(front), "{hello}");
        assert_eq!((hello.sni.as_deref(), &hello.alpn[..]), (Some(NAME), &[alpn.to_owned()][..]));
        assert_eq!(hello.parameters.is_some(), http == Http::H3);
        if let Some(parameters) = &hello.parameters {
            assert!(parameters.max_datagram_frame_size().is_some_and(|size| size > 1200), "{hello}");
        }
        assert!(!hello.cut && hello.unread.is_none() && hello.damaged.is_empty(), "{hello}");
    }
    relay.finish().await;
}

#[tokio::test]
async fn what_a_client_offers_is_kept_where_its_handshake_fails() {
    let relay = Relay::spawn(|_| {}).await;
    for (http, front) in [(Http::H3, "q13d"), (Http::H2, "t13d")] {
        let mut options = relay.stranger();
        (options.http, options.alpn) = (http, Some(b"elsewhere".to_vec()));
        Client::open(options).await.unwrap_err();
        let right = |record: &masque_relay::diagnosis::Record| {
            record.close.is_some() && offered(record).is_some_and(|hello| hello.ja4.starts_with(front) && hello.alpn == ["elsewhere"])
        };
        let record = relay.recorded("the offer of a failed handshake", right).await;
        assert!(record.handshake_ms.is_none(), "{record:?}");
    }
    relay.finish().await;
}

#[tokio::test]
async fn what_is_no_tls_is_told_in_the_record() {
    let relay = Relay::spawn(|_| {}).await;
    let mut stream = TcpStream::connect(relay.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let right = |record: &masque_relay::diagnosis::Record| record.close.is_some() && record.hello.is_some();
    let hello = offered(&relay.recorded("what was sent", right).await).unwrap();
    assert_eq!(hello.unread.as_deref(), Some("the client does not speak TLS"));
    drop(stream);
    relay.finish().await;
}

#[tokio::test]
async fn a_client_that_asks_for_a_raw_public_key_gets_the_leafs_over_tcp() {
    let relay = Relay::spawn(|_| {}).await;
    for (key, works) in [(RawKey::of(&relay), true), (other_key(), false)] {
        let mut config = raw_key_client(key);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(relay.address()).await.unwrap();
        let connected = within("TLS", TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME).unwrap(), stream)).await;
        assert_eq!(connected.is_ok(), works, "{connected:?}");
    }
    relay.finish().await;
}

#[tokio::test]
async fn a_client_that_asks_for_a_raw_public_key_gets_the_leafs_over_quic() {
    let relay = Relay::spawn(|_| {}).await;
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    for (key, works) in [(RawKey::of(&relay), true), (other_key(), false)] {
        let mut config = raw_key_client(key);
        config.alpn_protocols = vec![b"h3".to_vec()];
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
        let connected = within("a connection", endpoint.connect_with(config, relay.address(), NAME).unwrap()).await;
        assert_eq!(connected.is_ok(), works, "{connected:?}");
        if let Ok(connection) = connected {
            connection.close(0x100_u32.into(), b"");
        }
    }
    // The same port serves who wants a certificate.
    assert_works(&relay.client().await, &TcpEcho::start().await).await;
    endpoint.wait_idle().await;
    drop(endpoint);
    relay.finish().await;
}

fn raw_key_client(trusted: RawKey) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trusted))
        .with_no_client_auth()
}

/// Somebody else's.
fn other_key() -> RawKey {
    RawKey::new(rcgen::PublicKeyData::subject_public_key_info(&rcgen::KeyPair::generate().unwrap()))
}
