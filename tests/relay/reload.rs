//! Which certificate a client gets, and how it is exchanged while the relay runs.

use std::{
    net::Ipv4Addr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use masque_relay::{
    config::Certificate,
    probe::{Http, Judge},
    server::{Found, Reload},
};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::{
    ClientConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{
    NAME, Relay, identity, now,
    tcp::TcpEcho,
    tunnels::{assert_echoes, assert_works},
    within, written,
};

/// Writes a new certificate for `names` where `files` are.
fn renew(files: &Certificate, names: &[&str]) -> CertificateDer<'static> {
    let made = identity(names);
    std::fs::write(&files.chain, &made.chain).unwrap();
    std::fs::write(&files.key, &made.key).unwrap();
    CertificateDer::from_pem_slice(made.chain.as_bytes()).unwrap()
}

fn files(dir: &Path) -> Certificate {
    Certificate { chain: dir.join("chain.pem"), key: dir.join("key.pem") }
}

fn first(relay: &Relay) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(relay.files().join("chain.pem")).unwrap()
}

/// What the relay shows a client that asks for `name`; one that has an address for it asks for none.
async fn shown(relay: &Relay, http: Http, name: &str) -> CertificateDer<'static> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Judge::new(|_, _| Ok(()))))
        .with_no_client_auth();
    config.alpn_protocols = vec![if http == Http::H3 { b"h3".to_vec() } else { b"h2".to_vec() }];
    if http != Http::H3 {
        let stream = TcpStream::connect(relay.address()).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = within("TLS", TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap();
        return stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    }
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
    let connection = within("a connection", endpoint.connect_with(config, relay.address(), name).unwrap()).await.unwrap();
    let chain = connection.peer_identity().unwrap().downcast::<Vec<CertificateDer<'static>>>().unwrap();
    connection.close(0x100_u32.into(), b"");
    within("the close", endpoint.wait_idle()).await;
    chain[0].clone()
}

#[tokio::test]
async fn a_client_gets_the_certificate_of_the_name_it_asks_for() {
    let dir = tempfile::tempdir().unwrap();
    let made = identity(&["other.test", "*.wild.test"]);
    let more = Certificate { chain: written(dir.path(), "c.pem", &made.chain), key: written(dir.path(), "k.pem", &made.key) };
    let other = CertificateDer::from_pem_slice(made.chain.as_bytes()).unwrap();
    let relay = Relay::spawn(|config| config.more_certificates = vec![more]).await;
    let first = first(&relay);
    for http in [Http::H3, Http::H2] {
        for (name, want) in [
            (NAME, &first),
            ("other.test", &other),
            ("Other.TEST", &other),
            ("a.wild.test", &other),
            ("a.b.wild.test", &first),
            ("unknown.test", &first),
            ("127.0.0.1", &first),
        ] {
            assert_eq!(&shown(&relay, http, name).await, want, "{http:?} {name}");
        }
    }
    relay.finish().await;
}

#[tokio::test]
async fn c80_new_certificates_serve_new_connections_and_tunnels_live_on() {
    for http in [Http::H3, Http::H2] {
        let relay = Relay::spawn(|_| {}).await;
        let echo = TcpEcho::start().await;
        let mut reload = relay.reload();
        assert_eq!(reload.look(now()).unwrap(), Found::Same);
        let client = relay.client_over(http).await;
        let mut tunnel = client.connect_tcp(&echo.address().to_string()).await.unwrap();
        assert_echoes(&mut tunnel).await;

        let before = first(&relay);
        let renewed = renew(&files(relay.files()), &[NAME, "127.0.0.1"]);
        assert_eq!(shown(&relay, http, NAME).await, before, "nobody has looked yet");
        assert_eq!(reload.look(now()).unwrap(), Found::New);
        assert_eq!(reload.look(now()).unwrap(), Found::Same);
        for http in [Http::H3, Http::H2] {
            assert_eq!(shown(&relay, http, NAME).await, renewed);
        }
        assert_echoes(&mut tunnel).await;
        assert_works(&client, &echo).await;
        drop((tunnel, reload));
        relay.finish().await;
    }
}

fn refused(reload: &mut Reload, now: SystemTime, word: &str) {
    let error = reload.look(now).unwrap_err();
    assert!(error.to_string().contains(word), "{error}");
    assert_eq!(reload.look(now).unwrap(), Found::Same, "it is told once");
}

#[tokio::test]
async fn c80_bad_certificates_change_nothing_and_are_told_once() {
    let relay = Relay::spawn(|_| {}).await;
    let before = first(&relay);
    let mut reload = relay.reload();
    let (at, files) = (now(), files(relay.files()));

    // Half of a renewal.
    std::fs::write(&files.chain, identity(&[NAME]).chain).unwrap();
    refused(&mut reload, at, "the private key belongs to another certificate");
    std::fs::remove_file(&files.key).unwrap();
    refused(&mut reload, at, "cannot read the private key");
    std::fs::write(&files.chain, "garbage").unwrap();
    refused(&mut reload, at, "is not PEM");
    renew(&files, &[NAME]);
    refused(&mut reload, SystemTime::UNIX_EPOCH, "valid");
    for http in [Http::H3, Http::H2] {
        assert_eq!(shown(&relay, http, NAME).await, before);
    }
    // The other half, and all is well.
    let good = renew(&files, &[NAME]);
    assert_eq!(reload.look(at + Duration::from_secs(1)).unwrap(), Found::New);
    for http in [Http::H3, Http::H2] {
        assert_eq!(shown(&relay, http, NAME).await, good);
    }
    drop(reload);
    relay.finish().await;
}
