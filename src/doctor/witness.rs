//! A verifier that lets every certificate pass and keeps it: what it is worth is judged afterwards, rule by rule.
//!
//! Nothing secret goes over a connection before [`chain`](super::chain) has judged it; see `visit`.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
};

/// Sees one connection's certificates.
#[derive(Debug)]
pub(super) struct Witness {
    algorithms: WebPkiSupportedAlgorithms,
    /// What is shown to a relay that asks for a client certificate.
    identity: Option<Arc<CertifiedKey>>,
    seen: Mutex<Seen>,
}

/// What the relay showed and asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Its certificates (DER), the leaf first; empty before they came.
    pub(super) chain: Vec<Vec<u8>>,
    /// Whether it asked for a client certificate, and the names (DER) of the authorities it takes.
    pub(super) asked: Option<Vec<Vec<u8>>>,
}

impl Witness {
    pub(super) fn new(identity: Option<Arc<CertifiedKey>>) -> Arc<Self> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        Arc::new(Self { algorithms, identity, seen: Mutex::default() })
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.note(|seen| seen.chain = [leaf].into_iter().chain(rest).map(|der| der.to_vec()).collect());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ResolvesClientCert for Witness {
    fn resolve(&self, authorities: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.note(|seen| seen.asked = Some(authorities.iter().map(|name| name.to_vec()).collect()));
        self.identity.clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}
