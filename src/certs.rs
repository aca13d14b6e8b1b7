//! Certificates: read one and check that it can be served, choose which is (`serving`), judge clients' (`client`), make them (`issue`, and bad ones
//! for faults: `misfits`), pack them for devices (`p12`), and sign with them (`cms`). What is read of the last two is BER (`ber`).
//!
//! Promises, each with a test:
//!
//! 1. *What cannot be served says so before a socket is bound*: which file, what is wrong with it, what to do.
//! 2. *A private key never leaves*: no `Debug`, no error and no log shows a byte of it.
//! 3. *One configuration for all workers*: one ticketer, so that a client resumes wherever the kernel sends it.

mod ber;
pub mod client;
pub mod cms;
pub mod facts;
pub mod files;
pub mod issue;
pub mod misfits;
pub mod p12;
mod serving;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::hkdf;
use rustls::{
    InconsistentKeys,
    crypto::aws_lc_rs as provider,
    pki_types::{
        CertificateDer, PrivateKeyDer, UnixTime,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};
use zeroize::Zeroizing;

use crate::config::Certificate;
use facts::Facts;
pub use serving::{Serving, Tls};

/// A certificate chain with its key, read and understood.
pub struct Identity {
    chain: PathBuf,
    certified: Arc<CertifiedKey>,
    facts: Facts,
    /// The private key, through HKDF-Extract: what other keys are derived from.
    seed: hkdf::Prk,
}

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are the path the message names, and the cause below it")]
pub enum CertError {
    /// The chain cannot be read.
    #[error("cannot read the certificate {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The key cannot be read.
    #[error("cannot read the private key {}", path.display())]
    ReadKey { path: PathBuf, source: io::Error },
    /// The chain's file is not PEM, or is damaged.
    #[error("cannot use {}: it is not PEM", path.display())]
    NotPem { path: PathBuf, der: bool },
    /// PEM that breaks off or does not decode.
    #[error("cannot use {}: its PEM is damaged", path.display())]
    Damaged { path: PathBuf, source: pem::Error },
    /// No certificate in the chain's file.
    #[error("cannot use {}: there is no certificate in it", path.display())]
    NoCertificate { path: PathBuf },
    /// No private key in the key's file.
    #[error("cannot use {}: there is no private key in it", path.display())]
    NoKey { path: PathBuf },
    /// The key is protected by a passphrase.
    #[error("cannot use {}: the private key in it is encrypted", path.display())]
    EncryptedKey { path: PathBuf },
    /// A kind of key that TLS 1.3 does not sign with here.
    #[error("cannot use the private key in {}", path.display())]
    UnusableKey { path: PathBuf, source: rustls::Error },
    /// The leaf does not parse.
    #[error("cannot understand the certificate in {}: {says}", path.display())]
    Unparsable { path: PathBuf, says: String },
    /// The key belongs to another certificate: the public keys differ.
    #[error("cannot use {} with {}: the private key belongs to another certificate", key.display(), chain.display())]
    Mismatch { chain: PathBuf, key: PathBuf },
    /// The leaf's time is over.
    #[error("cannot serve the certificate in {}: it expired on {}", path.display(), facts::utc(*at))]
    Expired { path: PathBuf, at: SystemTime },
    /// The leaf's time has not come.
    #[error("cannot serve the certificate in {}: it is valid only from {}", path.display(), facts::utc(*at))]
    NotYetValid { path: PathBuf, at: SystemTime },
    /// The leaf has no name a client could check.
    #[error("cannot serve the certificate in {}: it has no subject alternative name", path.display())]
    Nameless { path: PathBuf },
    /// No CA that could be clients'.
    #[error("cannot use {} as the CA of clients: {says}", path.display())]
    ClientAuthority { path: PathBuf, says: String },
    /// rustls refuses the configuration.
    #[error("cannot set up TLS")]
    Tls { source: rustls::Error },
}

impl CertError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("`masque-relay cert ca` and `masque-relay cert server NAME` make a CA and a certificate".into())
            }
            Self::ReadKey { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("the key is the file that was made together with the certificate".into())
            }
            Self::Read { path, source } | Self::ReadKey { path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(format!("let the user that runs the relay read it, like `chown USER {}`", path.display()))
            }
            Self::NotPem { path, der: true } => Some(format!(
                "it looks like DER: `openssl x509 -inform DER -in {path}` (for a key `openssl pkey -inform DER -in {path}`) prints it as PEM",
                path = path.display()
            )),
            Self::NotPem { .. } => Some("a PEM file has lines like `-----BEGIN CERTIFICATE-----`".into()),
            Self::Damaged { .. } => Some("copy the file again, whole, with its BEGIN and END lines".into()),
            Self::NoCertificate { .. } => Some("the file needs the certificate first, then the intermediates of its CA".into()),
            Self::NoKey { .. } => Some("the file needs a section `PRIVATE KEY`, `EC PRIVATE KEY` or `RSA PRIVATE KEY`".into()),
            Self::EncryptedKey { path } => {
                Some(format!("`openssl pkey -in {} -out plain.pem` takes the passphrase off; keep the result at mode 0600", path.display()))
            }
            Self::UnusableKey { .. } => Some("Apple's clients take P-256, P-384, or RSA of 2048 bits or more".into()),
            Self::Mismatch { .. } => {
                Some("`masque-relay cert inspect FILE` shows what a certificate is; give the key made with this one".into())
            }
            Self::Expired { .. } => Some("renew it, like `masque-relay cert server NAME --force`".into()),
            Self::NotYetValid { .. } => Some("check the clock of this machine".into()),
            Self::Nameless { .. } => {
                Some("clients ignore the common name: issue it anew with its DNS names and addresses as subject alternative names".into())
            }
            Self::ClientAuthority { .. } => {
                Some("`access.client_ca` is the CA's own certificate, as `masque-relay cert ca` makes one".into())
            }
            Self::Read { .. } | Self::ReadKey { .. } | Self::Unparsable { .. } | Self::Tls { .. } => None,
        }
    }
}

impl Identity {
    /// Reads chain and key and checks that they fit. Dates are [`Self::check`]'s.
    pub fn load(files: &Certificate) -> Result<Self, CertError> {
        let chain = read_chain(&files.chain)?;
        let facts = match chain.first() {
            Some(leaf) => Facts::read(leaf).map_err(|says| CertError::Unparsable { path: files.chain.clone(), says })?,
            None => return Err(CertError::NoCertificate { path: files.chain.clone() }),
        };
        let key = read_key(&files.key)?;
        let seed = hkdf::Salt::new(hkdf::HKDF_SHA256, SEED_SALT).extract(key.secret_der());
        // The provider clears what it takes.
        let signing = provider::default_provider()
            .key_provider
            .load_private_key(key.clone_key())
            .map_err(|source| CertError::UnusableKey { path: files.key.clone(), source })?;
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) => {}
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                return Err(CertError::Mismatch { chain: files.chain.clone(), key: files.key.clone() });
            }
            Err(source) => return Err(CertError::UnusableKey { path: files.key.clone(), source }),
        }
        Ok(Self { chain: files.chain.clone(), certified: Arc::new(certified), facts, seed })
    }

    /// Refuses an expired, not yet valid or nameless leaf.
    pub fn check(&self, now: SystemTime) -> Result<(), CertError> {
        let path = self.chain.clone();
        if now < self.facts.not_before {
            return Err(CertError::NotYetValid { path, at: self.facts.not_before });
        }
        if self.facts.not_after < now {
            return Err(CertError::Expired { path, at: self.facts.not_after });
        }
        if self.facts.names.is_empty() {
            return Err(CertError::Nameless { path });
        }
        Ok(())
    }

    /// Chain and key, as TLS takes them.
    pub fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }

    /// DNS names and addresses of the leaf's SAN, in order.
    pub fn names(&self) -> &[String] {
        &self.facts.names
    }

    /// The leaf itself.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        self.certified.cert.first().expect("load refuses an empty chain")
    }

    /// What the leaf says.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// 64 bytes derived from the private key (HKDF-SHA256, `info` as label): keys that survive a restart and differ from the TLS key.
    pub fn derive_key(&self, info: &str) -> [u8; 64] {
        let mut key = [0; 64];
        self.seed
            .expand(&[info.as_bytes()], SixtyFour)
            .and_then(|okm| okm.fill(&mut key))
            .expect("64 bytes are within HKDF-SHA256's limit of 255 blocks");
        key
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("chain", &self.chain).field("facts", &self.facts).field("key", &"[secret]").finish_non_exhaustive()
    }
}

/// The clock that TLS goes by, for every certificate it verifies.
pub fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(UnixTime::now().as_secs())
}

/// Every certificate of a PEM file, in order. `Err` when there is none.
pub fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertError> {
    let text = fs::read(path).map_err(|source| CertError::Read { path: path.into(), source })?;
    expect_pem(path, &text)?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| CertError::Damaged { path: path.into(), source })?;
    if chain.is_empty() {
        return Err(CertError::NoCertificate { path: path.into() });
    }
    Ok(chain)
}

/// The first private key of a PEM file.
fn read_key(path: &Path) -> Result<Zeroizing<PrivateKeyDer<'static>>, CertError> {
    let text = fs::read(path).map_err(|source| CertError::ReadKey { path: path.into(), source })?;
    let text = Zeroizing::new(text);
    expect_pem(path, &text)?;
    if is_encrypted(&text) {
        return Err(CertError::EncryptedKey { path: path.into() });
    }
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(Zeroizing::new(key)),
        Err(pem::Error::NoItemsFound) => Err(CertError::NoKey { path: path.into() }),
        Err(source) => Err(CertError::Damaged { path: path.into(), source }),
    }
}

/// Tells DER and other things from PEM, since both are called `.crt`, `.cer` and `.key`.
fn expect_pem(path: &Path, bytes: &[u8]) -> Result<(), CertError> {
    if contains(bytes, b"-----BEGIN ") {
        return Ok(());
    }
    // A DER certificate or key is a SEQUENCE with a length of more than 127 bytes.
    let der = matches!(bytes, [0x30, 0x81..=0x84, ..]);
    Err(CertError::NotPem { path: path.into(), der })
}

/// PKCS#8 has a section of its own for encrypted keys, the older forms a field in their header (RFC 1421 §4.6.1.1).
fn is_encrypted(pem: &[u8]) -> bool {
    contains(pem, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || contains(pem, b"Proc-Type: 4,ENCRYPTED")
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// HKDF's way to be told a length.
#[derive(Clone, Copy)]
struct SixtyFour;

impl hkdf::KeyType for SixtyFour {
    fn len(&self) -> usize {
        64
    }
}

/// Sets our use of the key's bytes apart from anybody else's.
const SEED_SALT: &[u8] = b"masque-relay keys from the TLS key, 1";

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, time::Duration};

    use tempfile::TempDir;

    use super::*;
    use issue::{Authority, Pair};

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn day() -> Duration {
        Duration::from_secs(24 * 3600)
    }

    fn pair(names: &[&str]) -> Pair {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        Authority::new("Test CA", now()).unwrap().server(&names, 30 * day(), now()).unwrap()
    }

    fn written(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> (TempDir, Certificate) {
        let dir = TempDir::new().unwrap();
        let files = Certificate { chain: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
        fs::write(&files.chain, chain).unwrap();
        fs::write(&files.key, key).unwrap();
        (dir, files)
    }

    fn refused(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> CertError {
        let (_dir, files) = written(chain, key);
        Identity::load(&files).unwrap_err()
    }

    #[test]
    fn names_are_the_leafs_in_order() {
        let made = pair(&["relay.example", "192.0.2.7", "2001:db8::7"]);
        let (_dir, files) = written(&made.chain, made.key.as_bytes());
        let identity = Identity::load(&files).unwrap();
        assert_eq!(identity.names(), ["relay.example", "192.0.2.7", "2001:db8::7"]);
        identity.check(now()).unwrap();
    }

    #[test]
    fn a_missing_file_is_named_for_what_it_is() {
        let made = pair(&["a.example"]);
        let (dir, mut files) = written(&made.chain, made.key.as_bytes());
        files.key = dir.path().join("nowhere.pem");
        let error = Identity::load(&files).unwrap_err();
        assert!(matches!(error, CertError::ReadKey { .. }), "{error:?}");
        assert!(error.to_string().contains("cannot read the private key"), "{error}");
        files.chain = dir.path().join("nowhere.pem");
        let error = Identity::load(&files).unwrap_err();
        assert!(matches!(error, CertError::Read { .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("cert server"));
    }

    #[test]
    fn an_unreadable_key_hints_at_permissions() {
        let error = CertError::ReadKey { path: "k.pem".into(), source: io::ErrorKind::PermissionDenied.into() };
        assert!(error.hint().unwrap().contains("chown"), "{:?}", error.hint());
        let made = pair(&["a.example"]);
        let (_dir, files) = written(&made.chain, made.key.as_bytes());
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o0)).unwrap();
        // Root reads everything: then there is nothing to refuse.
        match (fs::read(&files.key), Identity::load(&files)) {
            (Ok(_), loaded) => assert!(loaded.is_ok()),
            (Err(_), loaded) => assert!(matches!(loaded.unwrap_err(), CertError::ReadKey { .. })),
        }
    }

    #[test]
    fn a_file_without_certificate_or_key_says_so() {
        let made = pair(&["a.example"]);
        assert!(matches!(refused(made.key.as_bytes(), made.key.as_bytes()), CertError::NoCertificate { .. }));
        assert!(matches!(refused(&made.chain, &made.chain), CertError::NoKey { .. }));
        assert!(matches!(refused("", made.key.as_bytes()), CertError::NotPem { der: false, .. }));
    }

    #[test]
    fn damaged_pem_is_told_from_missing_pem() {
        let made = pair(&["a.example"]);
        let half = &made.chain[..made.chain.len() / 2];
        assert!(matches!(refused(half, made.key.as_bytes()), CertError::Damaged { .. }));
    }

    #[test]
    fn der_is_recognised_and_the_way_to_pem_is_told() {
        let made = pair(&["a.example"]);
        let der = CertificateDer::from_pem_slice(made.chain.as_bytes()).unwrap();
        let error = refused(&der, made.key.as_bytes());
        assert!(matches!(error, CertError::NotPem { der: true, .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("-inform DER"));
        let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes()).unwrap();
        assert!(matches!(refused(&made.chain, key.secret_der()), CertError::NotPem { der: true, .. }));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (one, other) = (pair(&["a.example"]), pair(&["a.example"]));
        let error = refused(&one.chain, other.key.as_bytes());
        assert!(matches!(error, CertError::Mismatch { .. }), "{error:?}");
        assert!(error.hint().is_some());
    }

    #[test]
    fn an_encrypted_key_is_recognised_in_both_forms() {
        let made = pair(&["a.example"]);
        for key in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAo=\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMAo=\n-----END EC PRIVATE KEY-----\n",
        ] {
            let error = refused(&made.chain, key);
            assert!(matches!(error, CertError::EncryptedKey { .. }), "{error:?}");
            assert!(error.hint().unwrap().contains("openssl pkey"));
        }
    }

    #[test]
    fn garbage_in_good_pem_is_unparsable() {
        let made = pair(&["a.example"]);
        let error = refused("-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n", made.key.as_bytes());
        assert!(matches!(error, CertError::Unparsable { .. }), "{error:?}");
        let error = refused(&made.chain, "-----BEGIN PRIVATE KEY-----\nMAo=\n-----END PRIVATE KEY-----\n");
        assert!(matches!(error, CertError::UnusableKey { .. }), "{error:?}");
    }

    #[test]
    fn dates_are_checked_to_the_second() {
        let made = pair(&["a.example"]);
        let (_dir, files) = written(&made.chain, made.key.as_bytes());
        let identity = Identity::load(&files).unwrap();
        let (from, until) = (identity.facts().not_before, identity.facts().not_after);
        let second = Duration::from_secs(1);
        assert!(matches!(identity.check(from - second), Err(CertError::NotYetValid { .. })));
        identity.check(from).unwrap();
        identity.check(until).unwrap();
        assert!(matches!(identity.check(until + second), Err(CertError::Expired { .. })));
    }

    #[test]
    fn a_leaf_without_names_is_refused() {
        let made = Authority::new("Test CA", now()).unwrap().client("alice", 30 * day(), now()).unwrap();
        let (_dir, files) = written(&made.chain, made.key.as_bytes());
        let error = Identity::load(&files).unwrap().check(now()).unwrap_err();
        assert!(matches!(error, CertError::Nameless { .. }), "{error:?}");
    }

    #[test]
    fn derived_keys_survive_a_restart_and_differ_by_label_and_key() {
        let (one, other) = (pair(&["a.example"]), pair(&["a.example"]));
        let (_dir, files) = written(&one.chain, one.key.as_bytes());
        let identity = Identity::load(&files).unwrap();
        assert_eq!(identity.derive_key("reset"), Identity::load(&files).unwrap().derive_key("reset"));
        assert_ne!(identity.derive_key("reset"), identity.derive_key("token"));
        let (_dir, files) = written(&other.chain, other.key.as_bytes());
        assert_ne!(identity.derive_key("reset"), Identity::load(&files).unwrap().derive_key("reset"));
    }

    #[test]
    fn debug_shows_no_key() {
        let made = pair(&["a.example"]);
        let (_dir, files) = written(&made.chain, made.key.as_bytes());
        let shown = format!("{:?} {made:?}", Identity::load(&files).unwrap());
        assert!(shown.contains("[secret]"));
        let line = made.key.lines().nth(1).unwrap();
        assert!(!shown.contains(line) && !shown.contains("PRIVATE"), "{shown}");
    }
}
