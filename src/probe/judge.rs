//! A relay's certificate judged by a function, in place of trust in a CA.

use std::fmt;

use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// What decides: it is given the leaf, and the certificates that came with it.
type Decide = dyn Fn(&CertificateDer<'_>, &[CertificateDer<'_>]) -> Result<(), Error> + Send + Sync;

/// A verifier for [`Options::verifier`](super::Options::verifier). Whatever it lets pass, who shows a certificate must hold its key.
pub struct Judge {
    decide: Box<Decide>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Judge {
    /// Lets pass what `decide` says nothing against.
    pub fn new(decide: impl Fn(&CertificateDer<'_>, &[CertificateDer<'_>]) -> Result<(), Error> + Send + Sync + 'static) -> Self {
        Self { decide: Box::new(decide), algorithms: aws_lc_rs::default_provider().signature_verification_algorithms }
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        (self.decide)(leaf, rest).map(|()| ServerCertVerified::assertion())
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

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge").finish_non_exhaustive()
    }
}
