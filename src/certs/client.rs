//! Certificates that clients show: by which CA they must be, and who they say a client is.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use super::{CertError, facts::hex, misfits::Misfits, read_chain};
use crate::config::revocable;

/// A client's certificate, whose signatures TLS has verified: as much as a request needs to be judged by it.
#[derive(Debug, PartialEq, Eq)]
pub struct Shown {
    /// The first DNS name or mail address of its subject alternative name, or the common name.
    pub user: Arc<str>,
    not_before: SystemTime,
    not_after: SystemTime,
    /// As [`revocable`] makes them.
    sha256: String,
    serial: String,
}

impl Shown {
    /// Reads DER. `None`: it says of nobody who it is.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let alternative = certificate.subject_alternative_name().ok()?;
        let alternative = alternative.iter().flat_map(|san| &san.value.general_names).find_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::RFC822Name(name) => Some(*name),
            _ => None,
        });
        let common = || certificate.subject().iter_common_name().next()?.as_str().ok();
        let user = alternative.or_else(common)?;
        // It goes into the log, where `-` stands for nobody.
        if !(1..=MAX_USER).contains(&user.len()) || user == "-" || user.chars().any(char::is_control) {
            return None;
        }
        let time = |at: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap_or(0));
        Some(Self {
            user: user.into(),
            not_before: time(certificate.validity().not_before.timestamp()),
            not_after: time(certificate.validity().not_after.timestamp()),
            sha256: hex(digest::digest(&digest::SHA256, der).as_ref()),
            serial: revocable(&hex(certificate.raw_serial())).unwrap_or_default(),
        })
    }

    /// What is wrong with it now. A handshake that resumes an older one has not asked.
    pub fn complaint(&self, revoked: &[String], now: SystemTime) -> Option<&'static str> {
        if revoked.iter().any(|one| *one == self.sha256 || *one == self.serial) {
            Some("it is revoked")
        } else if self.not_after < now {
            Some("it has expired")
        } else if now < self.not_before {
            Some("it is not valid yet")
        } else {
            None
        }
    }
}

/// As long as a DNS name may be.
const MAX_USER: usize = 253;

/// Asks clients for a certificate of the CAs in `path`; one without is let in, and must have a token.
pub(super) fn verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, CertError> {
    let mut roots = RootCertStore::empty();
    let unusable = |says: String| CertError::ClientAuthority { path: path.into(), says };
    for certificate in read_chain(path)? {
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider())).allow_unauthenticated().build();
    verifier.map(|verifier| verifier as _).map_err(|error| unusable(error.to_string()))
}

/// Certificates of clients where faults are allowed: they may make one mandatory, never one of another CA good.
#[derive(Debug)]
pub(super) struct Demanding {
    pub(super) misfits: Arc<Misfits>,
    pub(super) good: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for Demanding {
    fn client_auth_mandatory(&self) -> bool {
        self.misfits.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.good.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.good.verify_client_cert(leaf, others, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.good.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.good.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.good.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::certs::issue::Authority;

    #[test]
    fn a_certificate_says_who_and_until_when_and_can_be_revoked_by_both_its_numbers() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let day = Duration::from_secs(86_400);
        let pair = Authority::new("Test CA", now).unwrap().client("alice", day, now).unwrap();
        let shown = Shown::read(&CertificateDer::from_pem_slice(pair.chain.as_bytes()).unwrap()).unwrap();
        assert_eq!(&*shown.user, "alice");
        assert_eq!(shown.complaint(&["abcd".into()], now), None);
        assert_eq!(shown.complaint(&[], now + 2 * day), Some("it has expired"));
        assert_eq!(shown.complaint(&[], now - 2 * day), Some("it is not valid yet"));
        for revoked in [&shown.sha256, &shown.serial] {
            let revoked = revocable(&revoked.to_ascii_uppercase()).unwrap();
            assert_eq!(shown.complaint(&[revoked], now), Some("it is revoked"));
        }
    }
}
