//! TLS over TCP to a relay, for bytes that no client library would send; and trust in a key instead of a certificate.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime, pem::PemObject},
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
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
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

/// Trust in one raw public key (RFC 7250), and in no certificate: TLS that is told so offers to take nothing else.
#[derive(Debug)]
pub(crate) struct RawKey {
    key: Vec<u8>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl RawKey {
    /// In this one, a SubjectPublicKeyInfo.
    pub(crate) fn new(key: Vec<u8>) -> Self {
        Self { key, algorithms: aws_lc_rs::default_provider().signature_verification_algorithms }
    }

    /// In that of the relay's certificate.
    pub(crate) fn of(relay: &Relay) -> Self {
        let key = PrivateKeyDer::from_pem_file(relay.files().join("key.pem")).expect("a key");
        let key = aws_lc_rs::sign::any_supported_type(&key).expect("a key that signs");
        Self::new(key.public_key().expect("its public half").to_vec())
    }
}

impl ServerCertVerifier for RawKey {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if key.as_ref() == self.key { Ok(ServerCertVerified::assertion()) } else { Err(CertificateError::UnknownIssuer.into()) }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(message, &SubjectPublicKeyInfoDer::from(key.as_ref()), signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
