//! A PKCS#12 opened again.

use des::{
    TdesEde3,
    cipher::{BlockCipherDecrypt, KeyInit},
};
use yasna::{Tag, models::ObjectIdentifier};
use zeroize::Zeroizing;

use super::{BLOCK, CERT_BAG, DATA, Hash, MOST_ITERATIONS, Opens, PBE_SHA1_3DES, SHROUDED_KEY_BAG, Use, bmp, derive, oid, opens};

/// The chain (DER, the leaf first) and the private key (PKCS#8 DER) in a PKCS#12 of the kind that [`write`] makes, which `openssl pkcs12 -legacy`
/// and Apple's systems make too. `None`: another kind, another password, or nothing of the sort.
#[expect(clippy::redundant_closure_for_method_calls, reason = "the methods themselves are for one lifetime, and a reader has any")]
pub fn read(bytes: &[u8], password: &str) -> Option<Held> {
    if opens(bytes, password) != Ok(Opens::Yes) {
        return None;
    }
    let password = bmp(password);
    let safe = yasna::parse_ber(bytes, |reader| {
        reader.read_sequence(|pfx| {
            pfx.next().read_u8()?;
            let safe = pfx.next().read_sequence(|info| {
                info.next().read_oid()?;
                info.next().read_tagged(Tag::context(0), |value| value.read_bytes())
            })?;
            // The MAC was judged by `opens`.
            pfx.read_optional(|mac| mac.read_der())?;
            Ok(safe)
        })
    });
    let parts = yasna::parse_ber(&safe.ok()?, |reader| {
        reader.collect_sequence_of(|info| {
            info.read_sequence(|info| {
                let kind = info.next().read_oid()?;
                info.next().read_tagged(Tag::context(0), |value| {
                    if kind == oid(DATA) { value.read_bytes().map(Part::Plain) } else { read_encrypted(value).map(Part::Sealed) }
                })
            })
        })
    });
    let (mut chain, mut key) = (Vec::new(), None);
    for part in parts.ok()? {
        let bags = match part {
            Part::Plain(bags) => Zeroizing::new(bags),
            Part::Sealed(sealed) => sealed.open(&password)?,
        };
        for bag in yasna::parse_ber(&bags, |reader| reader.collect_sequence_of(read_bag)).ok()? {
            match bag {
                Bag::Certificate(der) => chain.push(der),
                Bag::Key(sealed) => key = Some(sealed.open(&password)?),
                Bag::Other => {}
            }
        }
    }
    (!chain.is_empty()).then_some(())?;
    Some(Held { chain, key: key? })
}

/// What is in a PKCS#12.
pub struct Held {
    /// Certificates (DER), the leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The private key (PKCS#8 DER).
    pub key: Zeroizing<Vec<u8>>,
}

/// A `ContentInfo` of the safe.
enum Part {
    Plain(Vec<u8>),
    Sealed(Locked),
}

/// A `SafeBag`.
enum Bag {
    Certificate(Vec<u8>),
    Key(Locked),
    Other,
}

/// What a password opens.
struct Locked {
    algorithm: ObjectIdentifier,
    salt: Vec<u8>,
    iterations: u32,
    bytes: Vec<u8>,
}

impl Locked {
    fn open(&self, password: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        if self.algorithm != oid(PBE_SHA1_3DES) || self.iterations > MOST_ITERATIONS || self.bytes.is_empty() {
            return None;
        }
        let key = derive(Hash::Sha1, Use::Key, password, &self.salt, self.iterations, 24);
        let iv = derive(Hash::Sha1, Use::Iv, password, &self.salt, self.iterations, BLOCK);
        let cipher = TdesEde3::new_from_slice(&key).ok()?;
        let mut before: [u8; BLOCK] = iv[..].try_into().ok()?;
        let mut plain = Zeroizing::new(Vec::with_capacity(self.bytes.len()));
        for block in self.bytes.chunks(BLOCK) {
            let sealed: [u8; BLOCK] = block.try_into().ok()?;
            let mut block = sealed.into();
            cipher.decrypt_block(&mut block);
            let block: [u8; BLOCK] = block.into();
            plain.extend(block.iter().zip(before).map(|(byte, before)| byte ^ before));
            before = sealed;
        }
        let pad = usize::from(*plain.last()?);
        let length = plain.len().checked_sub(pad).filter(|_| (1..=BLOCK).contains(&pad))?;
        plain.truncate(length);
        Some(plain)
    }
}

/// `EncryptedData`.
#[expect(clippy::redundant_closure_for_method_calls, reason = "the methods themselves are for one lifetime, and a reader has any")]
fn read_encrypted(value: yasna::BERReader<'_, '_>) -> yasna::ASN1Result<Locked> {
    value.read_sequence(|data| {
        data.next().read_u8()?;
        data.next().read_sequence(|info| {
            info.next().read_oid()?;
            let (algorithm, salt, iterations) = info.next().read_sequence(read_pbe)?;
            let bytes = info.next().read_tagged_implicit(Tag::context(0), |bytes| bytes.read_bytes())?;
            Ok(Locked { algorithm, salt, iterations, bytes })
        })
    })
}

fn read_pbe(algorithm: &mut yasna::BERReaderSeq<'_, '_>) -> yasna::ASN1Result<(ObjectIdentifier, Vec<u8>, u32)> {
    let kind = algorithm.next().read_oid()?;
    let (salt, iterations) =
        algorithm.next().read_sequence(|parameters| Ok((parameters.next().read_bytes()?, parameters.next().read_u32()?)))?;
    Ok((kind, salt, iterations))
}

#[expect(clippy::redundant_closure_for_method_calls, reason = "the methods themselves are for one lifetime, and a reader has any")]
fn read_bag(bag: yasna::BERReader<'_, '_>) -> yasna::ASN1Result<Bag> {
    bag.read_sequence(|bag| {
        let kind = bag.next().read_oid()?;
        let read = bag.next().read_tagged(Tag::context(0), |value| {
            if kind == oid(CERT_BAG) {
                value.read_sequence(|cert| {
                    cert.next().read_oid()?;
                    cert.next().read_tagged(Tag::context(0), |value| value.read_bytes()).map(Bag::Certificate)
                })
            } else if kind == oid(SHROUDED_KEY_BAG) {
                value.read_sequence(|shrouded| {
                    let (algorithm, salt, iterations) = shrouded.next().read_sequence(read_pbe)?;
                    Ok(Bag::Key(Locked { algorithm, salt, iterations, bytes: shrouded.next().read_bytes()? }))
                })
            } else {
                value.read_der().map(|_| Bag::Other)
            }
        })?;
        bag.read_optional(|attributes| attributes.read_der())?;
        Ok(read)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::p12::write;

    #[test]
    fn what_was_written_is_read_and_with_no_other_password() {
        let (leaf, above) = (&[0x30, 3, 1, 2, 3][..], &[0x30, 1, 9][..]);
        let bytes = write(&[leaf, above], b"the key", "name", "secret");
        let held = read(&bytes, "secret").unwrap();
        assert_eq!((held.chain, &held.key[..]), (vec![leaf.to_vec(), above.to_vec()], &b"the key"[..]));
        assert!(read(&bytes, "other").is_none() && read(b"nothing", "secret").is_none());
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut], "secret").is_none());
        }
    }
}
