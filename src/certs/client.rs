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
use tracing::info;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use super::{CertError, facts::hex, misfits::Misfits, read_chain};
use crate::config::{memory::CLIENT_CHAIN, revocable};

/// A client's certificate, whose key TLS has seen at work. Who has signed it may not have been asked (the fault `client-cert`), or long ago (a
/// handshake that resumes an older one): [`Self::complaint`] tells what it is worth.
#[derive(Debug)]
pub struct Shown {
    /// The first DNS name or mail address of its subject alternative name, or the common name.
    pub user: Arc<str>,
    not_before: SystemTime,
    not_after: SystemTime,
    /// When its certificate and those it came with are over.
    ends: Vec<SystemTime>,
    /// As [`revocable`] makes them.
    sha256: String,
    serial: String,
    /// As it came, the leaf first.
    chain: Vec<CertificateDer<'static>>,
    /// What was found out last: not again for every request.
    signed: Mutex<Option<Signed>>,
}

/// Whether these CAs have signed a chain.
#[derive(Debug)]
struct Signed {
    by: Arc<Authorities>,
    /// When they were asked.
    at: SystemTime,
    answer: bool,
}

impl Shown {
    /// Reads a chain as TLS has it. `None`, and a line in the log: it is longer than [`CLIENT_CHAIN`], or says of nobody who it is.
    pub fn read(chain: &[CertificateDer<'_>]) -> Option<Self> {
        if chain.iter().map(|der| der.len() as u64).sum::<u64>() > CLIENT_CHAIN {
            info!(why = "it and those it comes with take more than 16 KiB", "a client's certificate cannot be used");
            return None;
        }
        let shown = Self::of(chain);
        if shown.is_none() {
            info!(why = "it has no name that can be a user's", "a client's certificate cannot be used");
        }
        shown
    }

    fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
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
        let all = chain.iter().filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1));
        let ends = all.map(|certificate| time(certificate.validity().not_after.timestamp())).collect();
        Some(Self {
            ends,
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
            Some("no CA that counts has signed it for a client")
        } else {
            None
        }
    }

    /// After how long it, or the next of those it came with, is over; `None`: all are.
    pub fn lasts(&self, now: SystemTime) -> Option<Duration> {
        // The second that a certificate names is its last one.
        self.ends.iter().filter_map(|end| end.duration_since(now).ok()).min().map(|left| left + Duration::from_secs(1))
    }

    fn is_signed_by(&self, authorities: &Arc<Authorities>, now: SystemTime) -> bool {
        let mut signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = |signed: &Signed| Arc::ptr_eq(&signed.by, authorities) && !self.ends.iter().any(|end| (signed.at..now).contains(end));
        match &*signed {
            Some(signed) if holds(signed) => signed.answer,
            _ => {
                let answer = authorities.have_signed(&self.chain, now);
                signed.insert(Signed { by: Arc::clone(authorities), at: now, answer }).answer
            }
        }
    }
}

/// As long as a DNS name may be.
const MAX_USER: usize = 253;

/// The CAs whose certificates count.
#[derive(Debug)]
pub struct Authorities {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Of their certificates.
    sha256: String,
}

impl Authorities {
    /// Those in the PEM file `path`.
    pub(super) fn read(path: &Path) -> Result<Self, CertError> {
        let mut roots = RootCertStore::empty();
        let unusable = |says: String| CertError::ClientAuthority { path: path.into(), says };
        let mut all = digest::Context::new(&digest::SHA256);
        for certificate in read_chain(path)? {
            all.update(&certificate);
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider())).allow_unauthenticated().build();
        Ok(Self { verifier: verifier.map_err(|error| unusable(error.to_string()))?, sha256: hex(all.finish().as_ref()) })
    }

    /// Whether both are the same CAs.
    pub fn are(&self, others: &Self) -> bool {
        self.sha256 == others.sha256
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
    use rcgen::{Issuer, KeyPair};
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::certs::issue::{Authority, params};

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
        let filler = |length: u64| CertificateDer::from(vec![0; length as usize - leaf.len()]);
        assert!(Shown::read(&[leaf.clone(), filler(CLIENT_CHAIN)]).is_some());
        assert!(Shown::read(&[leaf.clone(), filler(CLIENT_CHAIN + 1)]).is_none());
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
        for (authorities, want) in [
            (&other, Some("no CA that counts has signed it for a client")),
            (&mine, None),
            (&both, None),
            (&other, Some("no CA that counts has signed it for a client")),
        ] {
            for _ in 0..2 {
                assert_eq!(shown.complaint(authorities, &[], now), want);
            }
        }
    }

    #[test]
    fn a_certificate_counts_as_long_as_the_one_that_vouches_for_it() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let issued = |name: &str, until: SystemTime, ca: bool, by: Option<&Issuer<'static, KeyPair>>| {
            let mut made = params(name, now - DAY, until);
            if ca {
                made.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
                made.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
            } else {
                made.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
            }
            let key = KeyPair::generate().unwrap();
            let certificate = by.map_or_else(|| made.self_signed(&key), |by| made.signed_by(&key, by)).unwrap();
            (certificate, Issuer::new(made, key))
        };
        let (root, root_issuer) = issued("root", now + 30 * DAY, true, None);
        let (middle, middle_issuer) = issued("middle", now + DAY, true, Some(&root_issuer));
        let (leaf, _) = issued("alice", now + 9 * DAY, false, Some(&middle_issuer));
        let shown = Shown::read(&[leaf.der().clone(), middle.der().clone()]).unwrap();
        let ours = authorities(&root.pem());
        assert_eq!(shown.complaint(&ours, &[], now), None);
        let left = shown.lasts(now).unwrap();
        assert_eq!(left, DAY + Duration::from_secs(1), "it is asked again when the first of them is over");
        assert_eq!(shown.complaint(&ours, &[], now + left), Some("no CA that counts has signed it for a client"));
    }
}
