//! Faults of certificates: what is shown is bad in one way, and in no other.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, UNIX_EPOCH},
};

use masque_relay::{
    certs::facts::{Facts, LONGEST},
    fault::{EVERY, Fault},
    probe::{self, Http},
};
use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{options, shows, tcp, versions};
use crate::support::{NAME, Relay, tcp::TcpEcho};

/// Accepts everything, and keeps it.
#[derive(Debug, Default)]
struct Witness(Mutex<Vec<CertificateDer<'static>>>);

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(leaf).chain(rest).map(|der| der.clone().into_owned()).collect();
        *self.0.lock().unwrap() = chain;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 alone is spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, leaf, signed, &default_provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What is shown to a new client.
async fn shown(relay: &Relay, http: Http) -> Vec<CertificateDer<'static>> {
    let witness = Arc::new(Witness::default());
    let mut options = options(relay, http);
    options.verifier = Some(Arc::clone(&witness) as Arc<dyn ServerCertVerifier>);
    probe::Client::open(options).await.unwrap();
    std::mem::take(&mut witness.0.lock().unwrap())
}

/// The faults that somebody sees in what is shown who knows the CA.
fn seen(relay: &Relay, chain: &[CertificateDer<'static>]) -> Vec<&'static str> {
    use rustls::pki_types::pem::PemObject;

    let ca = Facts::read(&CertificateDer::from_pem_slice(relay.ca().as_bytes()).unwrap()).unwrap();
    let leaf = Facts::read(&chain[0]).unwrap();
    let (_, parsed) = X509Certificate::from_der(&chain[0]).unwrap();
    let now = UNIX_EPOCH + Duration::from_secs(UnixTime::now().as_secs());
    let faults = [
        (leaf.self_issued, "cert-self-signed"),
        (leaf.not_after < now, "cert-expired"),
        (now < leaf.not_before, "cert-future"),
        (!leaf.names.is_empty() && !leaf.names.iter().any(|name| name == NAME), "cert-name"),
        (leaf.names.is_empty(), "cert-no-san"),
        (parsed.extended_key_usage().unwrap().is_none(), "cert-no-eku"),
        (leaf.not_after.duration_since(leaf.not_before).unwrap() > LONGEST, "cert-long"),
        (!leaf.self_issued && leaf.issuer != ca.subject && chain.len() == 1, "cert-no-chain"),
    ];
    faults.into_iter().filter_map(|(seen, name)| seen.then_some(name)).collect()
}

#[tokio::test]
async fn each_certificate_is_bad_in_its_own_way_alone() {
    let relay = Relay::spawn(|config| config.fault.allow = true).await;
    let none: [&str; 0] = [];
    for fault in EVERY.into_iter().filter(Fault::of_certificate) {
        for http in versions(&fault) {
            // The relay of the fixture has a leaf for as long as its maker likes.
            let healthy = seen(&relay, &shown(&relay, http).await);
            assert!(healthy == none || healthy == ["cert-long"], "{healthy:?}");
            relay.faults().set(fault);
            assert_eq!(seen(&relay, &shown(&relay, http).await), [fault.name()], "over {http}");
            relay.faults().clear(fault.name());
        }
    }
    relay.finish().await;
}

/// A client that judges as rustls does takes those that only Apple's clients mind.
#[tokio::test]
async fn a_strict_client_says_what_is_wrong() {
    let relay = Relay::spawn(|config| config.fault.allow = true).await;
    for (fault, says) in [
        ("cert-self-signed", "unknownissuer"),
        ("cert-expired", "expired"),
        ("cert-future", "notvalidyet"),
        ("cert-name", "notvalidforname"),
        ("cert-no-san", "notvalidforname"),
        ("cert-no-chain", "unknownissuer"),
        ("cert-no-eku", ""),
        ("cert-long", ""),
    ] {
        let fault: Fault = fault.parse().unwrap();
        relay.faults().set(fault);
        for http in [Http::H3, Http::H2] {
            match probe::Client::open(options(&relay, http)).await {
                Ok(_) => assert_eq!(says, "", "{fault} over {http}"),
                Err(error) => {
                    // QUIC gives the words of an error, TCP its name.
                    let error = format!("{error:?}").to_lowercase().replace(' ', "");
                    assert!(!says.is_empty() && error.contains(says), "{fault} over {http}: {error}");
                }
            }
        }
        relay.faults().clear(fault.name());
    }
    relay.finish().await;
}

#[tokio::test]
async fn client_cert() {
    shows("client-cert", async |relay, http| {
        let echo = TcpEcho::start().await;
        // The client may have finished its part of the handshake before the relay says no.
        match probe::Client::open(options(relay, http)).await {
            Ok(client) => tcp(&client, &echo).await.is_err(),
            Err(_) => true,
        }
    })
    .await;
}

/// Any certificate will do.
#[tokio::test]
async fn a_client_certificate_opens_the_door() {
    let relay = Relay::spawn(|config| (config.fault.allow, config.fault.on) = (true, vec![Fault::ClientCert])).await;
    let echo = TcpEcho::start().await;
    let made = rcgen::generate_simple_self_signed(["alice".to_string()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let signing = default_provider().key_provider.load_private_key(key).unwrap();
    let identity = Arc::new(rustls::sign::CertifiedKey::new(vec![made.cert.der().clone()], signing));
    for http in [Http::H3, Http::H2] {
        let mut options = relay.options();
        options.http = http;
        options.identity = Some(Arc::new(rustls::sign::SingleCertAndKey::from(Arc::clone(&identity))));
        let client = relay.open(options).await;
        crate::support::tunnels::assert_works(&client, &echo).await;
    }

    relay.finish().await;
}
