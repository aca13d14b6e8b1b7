//! Certificates that are bad in one way, made in memory when a fault asks for one; in every other way they are what a client wants.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{aws_lc_rs::default_provider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    sign::CertifiedKey,
};

use super::{
    Identity,
    issue::{Authority, DAY, IssueError, params, san},
    now,
};
use crate::{
    config::Certificate,
    fault::{Fault, Faults},
};

/// What TLS shows and asks for where faults are allowed.
pub struct Misfits {
    faults: Arc<Faults>,
    names: Vec<String>,
    authority: Authority,
    /// Those made so far, by the name of their fault.
    made: Mutex<HashMap<&'static str, Arc<CertifiedKey>>>,
}

impl Misfits {
    /// For `identity`, which is what is shown without a fault. Bad ones are issued by `authority`, or by a CA that nobody trusts.
    pub fn new(identity: &Identity, authority: Option<&Certificate>, faults: Arc<Faults>) -> Result<Arc<Self>, IssueError> {
        let authority = match authority {
            Some(files) => Authority::load(&files.chain, &files.key)?,
            None => Authority::new("masque-relay CA of bad certificates", now())?,
        };
        let names = identity.names().to_vec();
        Ok(Arc::new(Self { faults, names, authority, made: Mutex::default() }))
    }

    /// What is wrong with the certificate that is shown now.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.faults.certificate()
    }

    pub(super) fn shown(&self, fault: Fault) -> Option<Arc<CertifiedKey>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shown) = made.get(fault.name()) {
            return Some(Arc::clone(shown));
        }
        match self.make(fault) {
            Ok(shown) => Some(Arc::clone(made.entry(fault.name()).or_insert(shown))),
            Err(error) => {
                tracing::error!(%error, "cannot make the certificate of `{fault}`");
                None
            }
        }
    }

    fn make(&self, fault: Fault) -> Result<Arc<CertifiedKey>, IssueError> {
        let now = now();
        let month = 30 * DAY;
        let (from, until) = match fault {
            Fault::CertExpired => (now - month, now - DAY),
            Fault::CertFuture => (now + DAY, now + month),
            // Longer than the 825 days that Apple's clients take.
            Fault::CertLong => (now - DAY, now + 999 * DAY),
            _ => (now - DAY, now + month),
        };
        let first = self.names.first().map_or("localhost", String::as_str);
        let mut leaf = dated(first, from, until);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.use_authority_key_identifier_extension = fault != Fault::CertSelfSigned;
        if fault != Fault::CertNoEku {
            leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }
        leaf.subject_alt_names = match fault {
            Fault::CertNoSan => Vec::new(),
            Fault::CertName => vec![san("another-name.invalid")?],
            _ => self.names.iter().map(|name| san(name)).collect::<Result<_, _>>()?,
        };
        let key = KeyPair::generate()?;
        let certificate = match fault {
            Fault::CertSelfSigned => leaf.self_signed(&key)?,
            Fault::CertNoChain => leaf.signed_by(&key, &intermediate(now)?)?,
            _ => leaf.signed_by(&key, self.authority.issuer())?,
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = default_provider().key_provider.load_private_key(key).expect("a P-256 key just made can sign");
        Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signing)))
    }
}

/// The CA that is not sent along: what it is, and who signed it, nobody ever sees.
fn intermediate(now: SystemTime) -> Result<Issuer<'static, KeyPair>, IssueError> {
    let mut ca = params("masque-relay intermediate that is not sent", now, now + 60 * DAY);
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(Issuer::new(ca, KeyPair::generate()?))
}

fn dated(common_name: &str, from: SystemTime, until: SystemTime) -> CertificateParams {
    let mut params = params(common_name, from, until);
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + from.duration_since(UNIX_EPOCH).unwrap_or_default();
    params
}

/// The fault `client-cert`: any certificate will do, none will not.
impl ClientCertVerifier for Misfits {
    fn offer_client_auth(&self) -> bool {
        self.faults.on(Fault::ClientCert)
    }

    fn client_auth_mandatory(&self) -> bool {
        self.faults.on(Fault::ClientCert)
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(&self, _: &CertificateDer<'_>, _: &[CertificateDer<'_>], _: UnixTime) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &default_provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &default_provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Misfits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Misfits").field("names", &self.names).finish_non_exhaustive()
    }
}
