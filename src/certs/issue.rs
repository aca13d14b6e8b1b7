//! Makes a CA, server leaves, client identities and tokens.
//!
//! What is made satisfies Apple's clients: names in the SAN, EKU, P-256 with SHA-256, at most 825 days, a leaf that is not its own CA.

use std::{
    fmt, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::rand;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber, string::Ia5String,
};
use rustls::{
    RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, DnsName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use zeroize::Zeroizing;

use super::{
    CertError,
    facts::{Facts, LONGEST},
    read_chain,
};

/// A certificate authority with its key.
pub struct Authority {
    /// Its certificate, PEM.
    pem: String,
    not_after: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its private key, both PEM.
pub struct Pair {
    /// The certificate.
    pub chain: String,
    /// The key, PKCS#8.
    pub key: Zeroizing<String>,
}

/// Why nothing is issued.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what the message names, and the cause below it")]
pub enum IssueError {
    /// No name to issue for.
    #[error("cannot issue a server certificate without a name")]
    Nameless,
    /// Not a DNS name nor an address.
    #[error("cannot issue for `{name}`: it is neither a DNS name nor an IP address")]
    Name { name: String },
    /// A validity no client accepts, or none at all.
    #[error("cannot issue for {days} days")]
    Days { days: u64 },
    /// The CA's own time is over.
    #[error("cannot issue from a CA that is expired")]
    Expired,
    /// The CA's certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertError),
    /// The CA's key cannot be read.
    #[error("cannot read the CA's key {}", path.display())]
    ReadKey { path: PathBuf, source: std::io::Error },
    /// The CA's certificate and key cannot be used together.
    #[error("cannot use the CA {} with {}", ca.display(), key.display())]
    Authority { ca: PathBuf, key: PathBuf, source: rcgen::Error },
    /// The certificate is not a CA's.
    #[error("cannot issue from {}: it is not a CA", ca.display())]
    NotAuthority { ca: PathBuf },
    /// The library says no.
    #[error("cannot make the certificate")]
    Make(#[from] rcgen::Error),
}

impl IssueError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Nameless => Some("name what clients write in the URL, like `masque-relay cert server relay.example 192.0.2.7`".into()),
            Self::Name { .. } => {
                Some("write a name without scheme or port, like `relay.example`, `*.example`, `192.0.2.7` or `2001:db8::7`".into())
            }
            Self::Days { .. } => Some("take 1 to 825: Apple's clients refuse longer ones".into()),
            Self::Expired => Some("make a new one with `masque-relay cert ca --force`, and install it on the clients".into()),
            Self::Certificate(CertError::Read { .. }) | Self::ReadKey { .. } => Some("`masque-relay cert ca` makes a CA".into()),
            Self::Certificate(error) => error.hint(),
            Self::Authority { .. } | Self::NotAuthority { .. } => {
                Some("give the `ca.pem` and `ca.key` that `masque-relay cert ca` wrote".into())
            }
            Self::Make(_) => None,
        }
    }
}

impl Authority {
    /// A new CA: P-256, ten years, for leaves only.
    pub fn new(name: &str, now: SystemTime) -> Result<Self, IssueError> {
        let key = KeyPair::generate()?;
        let not_after = now + TEN_YEARS;
        let mut params = params(name, now, not_after);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, not_after, issuer: Issuer::new(params, key) })
    }

    /// Reads a CA that was written before.
    pub fn load(ca: &Path, key: &Path) -> Result<Self, IssueError> {
        let der = read_chain(ca)?.swap_remove(0);
        let facts = Facts::read(&der).map_err(|says| CertError::Unparsable { path: ca.into(), says })?;
        if !facts.authority {
            return Err(IssueError::NotAuthority { ca: ca.into() });
        }
        let text = fs::read_to_string(key).map_err(|source| IssueError::ReadKey { path: key.into(), source })?;
        let text = Zeroizing::new(text);
        let unusable = |source| IssueError::Authority { ca: ca.into(), key: key.into(), source };
        let pair = KeyPair::from_pem(&text).map_err(unusable)?;
        let issuer = Issuer::from_ca_cert_der(&der, pair).map_err(unusable)?;
        let pem = fs::read_to_string(ca).map_err(|source| CertError::Read { path: ca.into(), source })?;
        let authority = Self { pem, not_after: facts.not_after, issuer };
        // rcgen believes that the two belong together; a leaf of a foreign key would fail at every client.
        let probe = authority.leaf(
            "probe",
            vec![SanType::DnsName(Ia5String::try_from("probe.invalid")?)],
            Purpose::Server,
            DAY,
            facts.not_before,
        )?;
        if !authority.issued(probe.chain.as_bytes(), facts.not_before) {
            return Err(unusable(rcgen::Error::CouldNotParseKeyPair));
        }
        Ok(authority)
    }

    /// The CA's certificate, PEM: what clients install.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The CA's private key, PKCS#8 PEM.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// What signs.
    pub(super) const fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// Last second of the CA's validity.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// A server's leaf for DNS names (`*.` in front allowed) and addresses, valid from an hour ago until `lasts` from now, at most 825 days in
    /// all and never longer than the CA.
    pub fn server(&self, names: &[String], lasts: Duration, now: SystemTime) -> Result<Pair, IssueError> {
        let first = names.first().ok_or(IssueError::Nameless)?;
        let san = names.iter().map(|name| san(name)).collect::<Result<Vec<_>, _>>()?;
        self.leaf(first, san, Purpose::Server, lasts, now)
    }

    /// A client's identity for TLS client authentication; `user` is its common name.
    pub fn client(&self, user: &str, lasts: Duration, now: SystemTime) -> Result<Pair, IssueError> {
        if user.is_empty() || user.len() > MAX_COMMON_NAME || user.chars().any(char::is_control) {
            return Err(IssueError::Name { name: user.escape_debug().to_string() });
        }
        self.leaf(user, Vec::new(), Purpose::Client, lasts, now)
    }

    /// A certificate for one signature (DER), and its key; what it signed outlives it.
    pub(super) fn signer(&self, now: SystemTime) -> Result<(CertificateDer<'static>, KeyPair), IssueError> {
        let (certificate, key) = self.issue("masque-relay profiles", Vec::new(), Purpose::Sign, LONGEST, now)?;
        Ok((certificate.der().clone(), key))
    }

    /// Whether the leaf in `pem` is one of this CA's, and valid `at` this time.
    pub fn issued(&self, pem: &[u8], at: SystemTime) -> bool {
        let verify = || {
            let leaf = CertificateDer::from_pem_slice(pem).ok()?;
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).ok()?).ok()?;
            let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).ok()?);
            let algorithms = default_provider().signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&ParsedCertificate::try_from(&leaf).ok()?, &roots, &[], at, algorithms).ok()
        };
        verify().is_some()
    }

    fn leaf(&self, common_name: &str, san: Vec<SanType>, purpose: Purpose, lasts: Duration, now: SystemTime) -> Result<Pair, IssueError> {
        let (certificate, key) = self.issue(common_name, san, purpose, lasts, now)?;
        Ok(Pair { chain: certificate.pem(), key: Zeroizing::new(key.serialize_pem()) })
    }

    fn issue(
        &self,
        common_name: &str,
        san: Vec<SanType>,
        purpose: Purpose,
        lasts: Duration,
        now: SystemTime,
    ) -> Result<(Certificate, KeyPair), IssueError> {
        if lasts < DAY || lasts > LONGEST {
            return Err(IssueError::Days { days: lasts.as_secs() / DAY.as_secs() });
        }
        if self.not_after <= now {
            return Err(IssueError::Expired);
        }
        let start = now - SKEW;
        let mut params = params(common_name, now, (now + lasts).min(start + LONGEST).min(self.not_after));
        params.subject_alt_names = san;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match purpose {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
            // Of the usages there are, the one for signed content.
            Purpose::Sign => ExtendedKeyUsagePurpose::EmailProtection,
        }];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.issuer)?, key))
    }
}

/// A token nobody guesses: 256 random bits, in letters that need no quoting anywhere.
pub fn token() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; 32]);
    rand::fill(bytes.as_mut()).expect("the system's random numbers never fail once the process runs");
    Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(bytes.as_ref()))
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("not_after", &self.not_after).field("key", &"[secret]").finish_non_exhaustive()
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("chain", &self.chain).field("key", &"[secret]").finish()
    }
}

#[derive(Clone, Copy)]
enum Purpose {
    Server,
    Client,
    Sign,
}

/// What all certificates of ours have in common.
pub(super) fn params(common_name: &str, now: SystemTime, not_after: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let common_name = if common_name.len() <= MAX_COMMON_NAME { common_name } else { "masque-relay" };
    params.distinguished_name.push(DnType::CommonName, common_name);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default();
    params.not_before = epoch + since(now - SKEW);
    params.not_after = epoch + since(not_after);
    params.serial_number = Some(serial());
    params
}

/// 127 random bits: positive, and unique without a register (RFC 5280 §4.1.2.2).
fn serial() -> SerialNumber {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).expect("the system's random numbers never fail once the process runs");
    // The first bit is the sign; one set bit keeps the number from starting with zeros.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

pub(super) fn san(name: &str) -> Result<SanType, IssueError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let wrong = || IssueError::Name { name: name.escape_debug().to_string() };
    let host = name.strip_prefix("*.").unwrap_or(name);
    // `1.2.3` and `0x7f.1` look like addresses to some clients: no name ends in a label of digits.
    let numeric = host.rsplit('.').next().is_none_or(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric || host.ends_with('.') || DnsName::try_from(host).is_err() {
        return Err(wrong());
    }
    Ok(SanType::DnsName(Ia5String::try_from(name.to_ascii_lowercase()).map_err(|_| wrong())?))
}

pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// As long as a private CA stays installed on devices without anybody thinking of it.
const TEN_YEARS: Duration = Duration::from_secs(3652 * 24 * 3600);

/// Clients whose clock is behind ours still accept what was made a moment ago.
const SKEW: Duration = Duration::from_secs(3600);

/// RFC 5280 appendix A.1, ub-common-name.
const MAX_COMMON_NAME: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tempfile::TempDir;

    use super::*;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn facts(pem: &str) -> Facts {
        Facts::read(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap()
    }

    fn authority() -> Authority {
        Authority::new("Test CA", now()).unwrap()
    }

    #[test]
    fn a_ca_signs_leaves_only_for_ten_years() {
        let facts = facts(authority().pem());
        assert!(facts.authority && facts.self_issued);
        assert_eq!(facts.subject, "CN=Test CA");
        assert!(facts.not_after > now() + 3650 * DAY);
    }

    #[test]
    fn a_leaf_verifies_under_its_ca_and_no_other() {
        let (ca, other) = (authority(), authority());
        let leaf = ca.server(&["relay.example".into(), "::1".into()], 30 * DAY, now()).unwrap();
        assert!(ca.issued(leaf.chain.as_bytes(), now()));
        assert!(!other.issued(leaf.chain.as_bytes(), now()));
        assert!(!ca.issued(leaf.chain.as_bytes(), now() + 31 * DAY));
    }

    #[test]
    fn a_leaf_is_valid_for_825_days_at_most_and_not_longer_than_its_ca() {
        let names = ["a.example".to_owned()];
        let ca = authority();
        for lasts in [Duration::ZERO, LONGEST + Duration::from_secs(1)] {
            assert!(matches!(ca.server(&names, lasts, now()), Err(IssueError::Days { .. })), "{lasts:?}");
        }
        let longest = facts(&ca.server(&names, LONGEST, now()).unwrap().chain);
        assert_eq!(longest.not_after.duration_since(longest.not_before).unwrap(), LONGEST);
        let late = ca.not_after() - DAY;
        assert_eq!(facts(&ca.server(&names, 30 * DAY, late).unwrap().chain).not_after, ca.not_after());
        assert!(matches!(ca.server(&names, 30 * DAY, ca.not_after()), Err(IssueError::Expired)));
    }

    #[test]
    fn names_that_no_client_asks_for_are_refused() {
        let ca = authority();
        for name in
            ["", "https://a.example", "a.example:443", "a..example", "*", "a.*.example", "bücher.example", "1.2.3", "a.example.", "a b"]
        {
            let refused = ca.server(&[name.into()], DAY, now());
            assert!(matches!(refused, Err(IssueError::Name { .. })), "{name:?} {refused:?}");
        }
        assert!(matches!(ca.server(&[], DAY, now()), Err(IssueError::Nameless)));
        let leaf = ca.server(&["*.Example.org".into(), "localhost".into()], DAY, now()).unwrap();
        assert_eq!(facts(&leaf.chain).names, ["*.example.org", "localhost"]);
    }

    #[test]
    fn a_client_identity_is_for_clients() {
        let facts = facts(&authority().client("alice", 30 * DAY, now()).unwrap().chain);
        assert_eq!(facts.subject, "CN=alice");
        assert!(facts.usage.client && !facts.usage.server);
        assert!(authority().client("", DAY, now()).is_err());
        assert!(authority().client("a\nb", DAY, now()).is_err());
    }

    #[test]
    fn a_ca_read_again_issues_what_the_first_one_verifies() {
        let dir = TempDir::new().unwrap();
        let (cert, key) = (dir.path().join("ca.pem"), dir.path().join("ca.key"));
        let ca = authority();
        fs::write(&cert, ca.pem()).unwrap();
        fs::write(&key, ca.key_pem().as_bytes()).unwrap();
        let again = Authority::load(&cert, &key).unwrap();
        let leaf = again.server(&["a.example".into()], DAY, now()).unwrap();
        assert!(ca.issued(leaf.chain.as_bytes(), now()));

        fs::write(&key, authority().key_pem().as_bytes()).unwrap();
        assert!(matches!(Authority::load(&cert, &key), Err(IssueError::Authority { .. })));
        fs::write(&cert, &leaf.chain).unwrap();
        assert!(matches!(Authority::load(&cert, &key), Err(IssueError::NotAuthority { .. })));
        fs::remove_file(&cert).unwrap();
        let error = Authority::load(&cert, &key).unwrap_err();
        assert!(error.hint().unwrap().contains("cert ca"), "{error:?}");
    }

    #[test]
    fn serials_and_tokens_never_repeat() {
        let serials: HashSet<_> = (0..100).map(|_| serial().to_bytes()).collect();
        assert_eq!(serials.len(), 100);
        assert!(serials.iter().all(|bytes| bytes[0] < 0x80 && bytes.len() == 16));
        let tokens: HashSet<_> = (0..100).map(|_| token().to_string()).collect();
        assert_eq!(tokens.len(), 100);
        assert!(tokens.iter().all(|token| token.len() == 43 && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))));
    }
}
