//! The MAC of a PKCS#12 (RFC 7292 §4, `MacData`): who knows the password made it, and nobody else has changed it.

use aws_lc_rs::{constant_time, hmac};
use yasna::{ASN1Result, BERReaderSeq, DERWriter};

use super::{
    Unread,
    derive::{Hash, Password, SHA1, Salted, Use, Work},
    lock::pass_over,
    name, oid,
};

/// `MacData`.
pub(super) struct Mac {
    /// Or the name of what is not known here.
    hash: Result<Hash, String>,
    tag: Vec<u8>,
    salted: Salted,
}

impl Mac {
    /// With SHA-1, as it is written here.
    pub(super) fn new(safe: &[u8], password: &Password<'_>) -> Self {
        let salted = Salted::new();
        let tag = tag(Hash::Sha1, &salted, safe, password, &mut Work::ours()).expect("its own work is not bounded");
        Self { hash: Ok(Hash::Sha1), tag: tag.as_ref().to_vec(), salted }
    }

    pub(super) fn write(&self, writer: DERWriter<'_>) {
        writer.write_sequence(|mac| {
            mac.next().write_sequence(|info| {
                info.next().write_sequence(|algorithm| {
                    algorithm.next().write_oid(&oid(SHA1));
                    algorithm.next().write_null();
                });
                info.next().write_bytes(&self.tag);
            });
            mac.next().write_bytes(&self.salted.salt);
            mac.next().write_u32(self.salted.iterations);
        });
    }

    #[expect(clippy::redundant_closure_for_method_calls, reason = "the methods themselves are for one lifetime, and a reader has any")]
    pub(super) fn read(mac: &mut BERReaderSeq<'_, '_>) -> ASN1Result<Self> {
        let (hash, tag) = mac.next().read_sequence(|info| {
            let hash = info.next().read_sequence(|algorithm| {
                let kind = algorithm.next().read_oid()?;
                pass_over(algorithm)?;
                Ok(Hash::of(&kind).ok_or_else(|| name(&kind)))
            })?;
            Ok((hash, info.next().read_bytes()?))
        })?;
        let salt = mac.next().read_bytes()?;
        let iterations = mac.read_optional(|number| number.read_u32())?.unwrap_or(1);
        Ok(Self { hash, tag, salted: Salted { salt, iterations } })
    }

    /// Whether this password made it, over `safe`.
    pub(super) fn check(&self, safe: &[u8], password: &Password<'_>, work: &mut Work) -> Result<(), Unread> {
        let hash = self.hash.clone().map_err(Unread::Protected)?;
        let ours = tag(hash, &self.salted, safe, password, work)?;
        constant_time::verify_slices_are_equal(ours.as_ref(), &self.tag).map_err(|_| Unread::Password)
    }
}

fn tag(hash: Hash, salted: &Salted, safe: &[u8], password: &Password<'_>, work: &mut Work) -> Result<hmac::Tag, Unread> {
    let key = salted.derive(hash, Use::Mac, password, hash.len(), work)?;
    Ok(hmac::sign(&hmac::Key::new(hash.hmac(), &key), safe))
}
