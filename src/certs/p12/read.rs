//! A PKCS#12 opened again, whoever wrote it. Its bytes may be hostile: everything in it is bounded by its length, and the work by [`Work`].

use std::fmt;

use yasna::{ASN1Result, BERReader, Tag, models::ObjectIdentifier};
use zeroize::Zeroizing;

use super::{
    CERT_BAG, DATA, ENCRYPTED_DATA, LOCAL_KEY_ID, SHROUDED_KEY_BAG, X509_CERTIFICATE,
    derive::{Password, Work},
    lock::{Lock, Locked},
    mac::Mac,
    name, oid,
};
use crate::certs::ber;

/// The chain and the private key in it. Read are MACs with SHA-1 and SHA-2, and contents in the clear, under 3DES as [`write`](super::write) makes
/// it, or under PBES2 with PBKDF2 and AES-CBC, as OpenSSL 3 makes it; not what a public key protects.
pub fn read(bytes: &[u8], password: &str, work: &mut Work) -> Result<Held, Unread> {
    let pfx = Pfx::read(bytes)?;
    let password = Password::new(password);
    pfx.check(&password, work)?;
    let (mut certificates, keys) = pfx.open(&password, work)?;
    let key = keys.into_iter().next().ok_or(Unread::NoKey)?;
    if certificates.is_empty() {
        return Err(Unread::NoCertificate);
    }
    // The leaf is the one tied to the key; where none is, the first.
    certificates.sort_by_key(|certificate| key.id.is_none() || certificate.id != key.id);
    Ok(Held { chain: certificates.into_iter().map(|certificate| certificate.der.to_vec()).collect(), key: key.der })
}

/// Whether `password` opens it. Where there is no MAC to tell it, what it protects does. `Err`: it is no PKCS#12.
pub fn opens(bytes: &[u8], password: &str, work: &mut Work) -> Result<Opens, NoPkcs12> {
    let password = Password::new(password);
    let told = Pfx::read(bytes).and_then(|pfx| match pfx.check(&password, work)? {
        Checked::Right => Ok(()),
        Checked::Nothing => pfx.open(&password, work).map(drop),
    });
    match told {
        Ok(()) => Ok(Opens::Yes),
        Err(Unread::Password) => Ok(Opens::No),
        Err(Unread::NoPkcs12(error)) => Err(error),
        Err(Unread::Protected(_) | Unread::TooMuchWork | Unread::TooLong | Unread::NoKey | Unread::NoCertificate) => Ok(Opens::Unknown),
    }
}

/// Whether a password opens a PKCS#12.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// It cannot be told: it is protected in a way that is not read here, or to find out would take too long.
    Unknown,
}

/// What is in a PKCS#12.
pub struct Held {
    /// Certificates (DER), the leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The private key (PKCS#8 DER).
    pub key: Zeroizing<Vec<u8>>,
}

/// The key stays out of it.
impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("chain", &self.chain.len()).field("key", &"[secret]").finish()
    }
}

/// Why a PKCS#12 is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It is none.
    #[error(transparent)]
    NoPkcs12(#[from] NoPkcs12),
    /// Another password may open it.
    #[error("the password does not open it")]
    Password,
    /// Its protection is of another kind, by its name.
    #[error("it is protected by {0}, which is not read here")]
    Protected(String),
    /// More than [`Work`] allows.
    #[error("it asks for more work than a file may")]
    TooMuchWork,
    /// A chain and a key are never as long.
    #[error("it is longer than 1 MiB")]
    TooLong,
    /// It has none.
    #[error("it has no certificate")]
    NoCertificate,
    /// It has none.
    #[error("it has no private key")]
    NoKey,
}

/// Bytes that are no PKCS#12.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no PKCS#12, or a damaged one")]
pub struct NoPkcs12;

/// `PFX` (RFC 7292 §4).
struct Pfx {
    /// `AuthenticatedSafe`; or what protects it instead of a password.
    safe: Result<Vec<u8>, String>,
    mac: Option<Mac>,
}

/// What a MAC has told.
enum Checked {
    Right,
    /// There is none.
    Nothing,
}

impl Pfx {
    fn read(bytes: &[u8]) -> Result<Self, Unread> {
        if bytes.len() > MOST_BYTES {
            return Err(Unread::TooLong);
        }
        let read = ber::parse(bytes, |reader| {
            reader.read_sequence(|pfx| {
                pfx.next().read_u8()?;
                let safe = pfx.next().read_sequence(|info| {
                    let kind = info.next().read_oid()?;
                    info.next().read_tagged(Tag::context(0), |value| {
                        if kind == oid(DATA) { value.read_bytes().map(Ok) } else { value.read_der().map(|_| Err(name(&kind))) }
                    })
                })?;
                Ok(Self { safe, mac: pfx.read_optional(|mac| mac.read_sequence(Mac::read))? })
            })
        });
        Ok(read.map_err(|_| NoPkcs12)?)
    }

    fn check(&self, password: &Password<'_>, work: &mut Work) -> Result<Checked, Unread> {
        let Some(mac) = &self.mac else { return Ok(Checked::Nothing) };
        mac.check(self.safe()?, password, work)?;
        Ok(Checked::Right)
    }

    /// The certificates and the keys in it.
    fn open(&self, password: &Password<'_>, work: &mut Work) -> Result<(Vec<Kept>, Vec<Kept>), Unread> {
        let parts = ber::parse(self.safe()?, |reader| reader.collect_sequence_of(Part::read)).map_err(|_| NoPkcs12)?;
        let (mut certificates, mut keys) = (Vec::new(), Vec::new());
        for part in parts {
            let (bags, garbled) = match part {
                Part::Plain(bags) => (Zeroizing::new(bags), NoPkcs12.into()),
                // A wrong password gives padding once in 256 times, and then anything.
                Part::Locked(locked) => (locked.open(password, work)?, Unread::Password),
                Part::Other(name) => return Err(Unread::Protected(name)),
            };
            let bags = ber::parse(&bags, |reader| reader.collect_sequence_of(read_bag)).map_err(|_| garbled)?;
            for (bag, id) in bags {
                match bag {
                    Bag::Certificate(der) => certificates.push(Kept { der: Zeroizing::new(der), id }),
                    Bag::Key(der) => keys.push(Kept { der, id }),
                    Bag::LockedKey(locked) => {
                        let der = locked.open(password, work)?;
                        if !ber::is_whole(&der) {
                            return Err(Unread::Password);
                        }
                        keys.push(Kept { der, id });
                    }
                    Bag::Other => {}
                }
            }
        }
        Ok((certificates, keys))
    }

    fn safe(&self) -> Result<&[u8], Unread> {
        self.safe.as_deref().map_err(|name| Unread::Protected(name.clone()))
    }
}

/// A certificate or a key.
struct Kept {
    der: Zeroizing<Vec<u8>>,
    /// What a key and its certificate have in common.
    id: Option<Vec<u8>>,
}

/// A `ContentInfo` of the safe.
enum Part {
    Plain(Vec<u8>),
    Locked(Locked),
    /// What no password opens.
    Other(String),
}

impl Part {
    fn read(info: BERReader<'_, '_>) -> ASN1Result<Self> {
        info.read_sequence(|info| {
            let kind = info.next().read_oid()?;
            info.next().read_tagged(Tag::context(0), |value| {
                if kind == oid(DATA) {
                    value.read_bytes().map(Self::Plain)
                } else if kind == oid(ENCRYPTED_DATA) {
                    read_encrypted(value).map(Self::Locked)
                } else {
                    value.read_der().map(|_| Self::Other(name(&kind)))
                }
            })
        })
    }
}

/// `EncryptedData` (RFC 5652 §8).
#[expect(clippy::redundant_closure_for_method_calls, reason = "the methods themselves are for one lifetime, and a reader has any")]
fn read_encrypted(value: BERReader<'_, '_>) -> ASN1Result<Locked> {
    value.read_sequence(|data| {
        data.next().read_u8()?;
        data.next().read_sequence(|info| {
            info.next().read_oid()?;
            let lock = Lock::read(info.next())?;
            let bytes = info.next().read_tagged_implicit(Tag::context(0), |bytes| bytes.read_bytes())?;
            Ok(Locked { lock, bytes })
        })
    })
}

/// The value of a `SafeBag`.
enum Bag {
    Certificate(Vec<u8>),
    Key(Zeroizing<Vec<u8>>),
    LockedKey(Locked),
    Other,
}

/// A `SafeBag`, with its local key identifier where there is one.
fn read_bag(bag: BERReader<'_, '_>) -> ASN1Result<(Bag, Option<Vec<u8>>)> {
    bag.read_sequence(|bag| {
        let kind = bag.next().read_oid()?;
        let value = bag.next().read_tagged(Tag::context(0), |value| read_value(&kind, value))?;
        let ids = bag.read_optional(|attributes| attributes.collect_set_of(read_id))?.unwrap_or_default();
        Ok((value, ids.into_iter().flatten().next()))
    })
}

fn read_value(kind: &ObjectIdentifier, value: BERReader<'_, '_>) -> ASN1Result<Bag> {
    if *kind == oid(CERT_BAG) {
        return value.read_sequence(|cert| {
            let kind = cert.next().read_oid()?;
            cert.next().read_tagged(Tag::context(0), |value| {
                if kind == oid(X509_CERTIFICATE) { value.read_bytes().map(Bag::Certificate) } else { value.read_der().map(|_| Bag::Other) }
            })
        });
    }
    if *kind == oid(SHROUDED_KEY_BAG) {
        return value.read_sequence(|shrouded| {
            let lock = Lock::read(shrouded.next())?;
            Ok(Bag::LockedKey(Locked { lock, bytes: shrouded.next().read_bytes()? }))
        });
    }
    let der = Zeroizing::new(value.read_der()?);
    Ok(if *kind == oid(KEY_BAG) { Bag::Key(der) } else { Bag::Other })
}

/// The value of an attribute, if it is the local key identifier.
#[expect(clippy::redundant_closure_for_method_calls, reason = "the methods themselves are for one lifetime, and a reader has any")]
fn read_id(attribute: BERReader<'_, '_>) -> ASN1Result<Option<Vec<u8>>> {
    attribute.read_sequence(|attribute| {
        let kind = attribute.next().read_oid()?;
        if kind != oid(LOCAL_KEY_ID) {
            return attribute.next().read_der().map(|_| None);
        }
        Ok(attribute.next().collect_set_of(|value| value.read_bytes())?.into_iter().next())
    })
}

/// A chain has a few kB, and a file with hundreds of certificates still less than this.
const MOST_BYTES: usize = 1 << 20;

const KEY_BAG: &[u64] = &[1, 2, 840, 113_549, 1, 12, 10, 1, 1];
