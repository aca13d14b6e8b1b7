//! Certificates that clients show: by which CA they must be, and who they say a client is.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
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

/// A client's certificate, whose key TLS has seen at work. Who has signed it may not have been asked (the fault `client-cert`), or long ago (a
/// handshake that resumes an older one): [`Self::complaint`] tells what it is worth.
#[derive(Debug)]
pub struct Shown {
    /// The first DNS name or mail address of its subject alternative name, or the common name.
    pub user: Arc<str>,
    not_before: SystemTime,
    not_after: SystemTime,
    /// As [`revocable`] makes them.
    sha256: String,
    serial: String,
    /// As it came, the leaf first.
    chain: Vec<CertificateDer<'static>>,
    /// Whether the CAs that were asked last have signed it: asked once, however many requests come.
    signed: Mutex<Option<(Arc<Authorities>, bool)>>,
}

impl Shown {
    /// Reads a chain as TLS has it. `None`: it says of nobody who it is, or takes more than 16 KiB to say it.
    pub fn read(chain: &[CertificateDer<'_>]) -> Option<Self> {
        if chain.iter().map(|der| der.len()).sum::<usize>() > MAX_CHAIN {
            return None;
        }
        let der = chain.first()?.as_ref();
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
            chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
            signed: Mutex::default(),
        })
    }

    /// Why it does not count now.
    pub fn complaint(&self, authorities: &Arc<Authorities>, revoked: &[String], now: SystemTime) -> Option<&'static str> {
        if revoked.iter().any(|one| *one == self.sha256 || *one == self.serial) {
            Some("it is revoked")
        } else if self.not_after < now {
            Some("it has expired")
        } else if now < self.not_before {
            Some("it is not valid yet")
        } else if !self.is_signed_by(authorities, now) {
            Some("it is of another CA")
        } else {
            None
        }
    }

    /// After how long it has expired; `None`: it has.
    pub fn lasts(&self, now: SystemTime) -> Option<Duration> {
        // The second it names is the last one.
        self.not_after.duration_since(now).ok().map(|left| left + Duration::from_secs(1))
    }

    fn is_signed_by(&self, authorities: &Arc<Authorities>, now: SystemTime) -> bool {
        let mut signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        match &*signed {
            Some((asked, signed)) if Arc::ptr_eq(asked, authorities) => *signed,
            _ => signed.insert((Arc::clone(authorities), authorities.have_signed(&self.chain, now))).1,
        }
    }
}

/// Bytes of a client's chain at most, since they are kept for as long as its connection lives.
const MAX_CHAIN: usize = 16 * 1024;
/// As long as a DNS name may be.
const MAX_USER: usize = 253;

/// The CAs whose certificates count.
#[derive(Debug)]
pub struct Authorities {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Authorities {
    /// Those in the PEM file `path`.
    pub(super) fn read(path: &Path) -> Result<Self, CertError> {
        let mut roots = RootCertStore::empty();
        let unusable = |says: String| CertError::ClientAuthority { path: path.into(), says };
        for certificate in read_chain(path)? {
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider())).allow_unauthenticated().build();
        Ok(Self { verifier: verifier.map_err(|error| unusable(error.to_string()))? })
    }

    /// Asks clients for a certificate of theirs; one without is let in, and must have a token.
    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    fn have_signed(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> bool {
        let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        chain.split_first().is_some_and(|(leaf, others)| self.verifier.verify_client_cert(leaf, others, now).is_ok())
    }
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

    const DAY: Duration = Duration::from_secs(86_400);

    fn authorities(pem: &str) -> Arc<Authorities> {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, pem).unwrap();
        Arc::new(Authorities::read(&path).unwrap())
    }

    #[test]
    fn a_certificate_says_who_and_until_when_and_can_be_revoked_by_both_its_numbers() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let authority = Authority::new("Test CA", now).unwrap();
        let pair = authority.client("alice", DAY, now).unwrap();
        let shown = Shown::read(&[CertificateDer::from_pem_slice(pair.chain.as_bytes()).unwrap()]).unwrap();
        let ours = authorities(authority.pem());
        assert_eq!(&*shown.user, "alice");
        assert_eq!(shown.complaint(&ours, &["abcd".into()], now), None);
        assert_eq!(shown.complaint(&ours, &[], now + 2 * DAY), Some("it has expired"));
        let expired = now + shown.lasts(now).unwrap();
        assert_eq!(shown.complaint(&ours, &[], expired), Some("it has expired"));
        assert_eq!(shown.complaint(&ours, &[], expired - Duration::from_secs(1)), None);
        assert_eq!(shown.lasts(expired), None);
        assert_eq!(shown.complaint(&ours, &[], now - 2 * DAY), Some("it is not valid yet"));
        for revoked in [&shown.sha256, &shown.serial] {
            let revoked = revocable(&revoked.to_ascii_uppercase()).unwrap();
            assert_eq!(shown.complaint(&ours, &[revoked], now), Some("it is revoked"));
        }
    }

    #[test]
    fn a_chain_is_kept_up_to_its_bound() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let pair = Authority::new("Test CA", now).unwrap().client("alice", DAY, now).unwrap();
        let leaf = CertificateDer::from_pem_slice(pair.chain.as_bytes()).unwrap();
        let filler = |length: usize| CertificateDer::from(vec![0; length - leaf.len()]);
        assert!(Shown::read(&[leaf.clone(), filler(MAX_CHAIN)]).is_some());
        assert!(Shown::read(&[leaf.clone(), filler(MAX_CHAIN + 1)]).is_none());
        assert!(Shown::read(&[]).is_none());
    }

    #[test]
    fn a_certificate_counts_for_those_who_signed_it_and_each_is_asked_anew() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let (mine, other) = (Authority::new("Test CA", now).unwrap(), Authority::new("Test CA", now).unwrap());
        let pair = mine.client("alice", DAY, now).unwrap();
        let shown = Shown::read(&[CertificateDer::from_pem_slice(pair.chain.as_bytes()).unwrap()]).unwrap();
        let both = authorities(&[other.pem(), mine.pem()].concat());
        let (mine, other) = (authorities(mine.pem()), authorities(other.pem()));
        for (authorities, want) in
            [(&other, Some("it is of another CA")), (&mine, None), (&both, None), (&other, Some("it is of another CA"))]
        {
            for _ in 0..2 {
                assert_eq!(shown.complaint(authorities, &[], now), want);
            }
        }
    }
}
