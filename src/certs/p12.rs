//! PKCS#12 (RFC 7292): a client's certificate and key in one file, under a password, as devices import it.
//!
//! The algorithms are the old ones, 3DES and SHA-1, since every Apple system reads those and some read nothing newer. They protect nothing that
//! is stored beside its password; where the file travels alone, the password is 256 random bits or the owner's choice.

mod read;

use aws_lc_rs::{constant_time, digest, hmac, rand};
use des::{
    TdesEde3,
    cipher::{BlockCipherEncrypt, KeyInit},
};
use yasna::{DERWriter, Tag, construct_der, models::ObjectIdentifier};
use zeroize::Zeroizing;

pub use read::{Held, read};

/// Whether a password opens a PKCS#12.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// It cannot be told: the file is protected in another way than by a password and SHA-1 or SHA-256.
    Unknown,
}

/// The PKCS#12 of a chain (DER, the leaf first) and its private key (PKCS#8 DER); `name` is what devices show.
pub fn write(chain: &[&[u8]], key: &[u8], name: &str, password: &str) -> Vec<u8> {
    let password = bmp(password);
    // What ties the key to its certificate; any bytes do.
    let id = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, chain.first().copied().unwrap_or_default());
    let certificates = construct_der(|writer| {
        writer.write_sequence(|bags| {
            for (index, der) in chain.iter().enumerate() {
                let own = (index == 0).then_some((name, id.as_ref()));
                bag(bags.next(), CERT_BAG, own, |value| {
                    value.write_sequence(|cert| {
                        cert.next().write_oid(&oid(X509_CERTIFICATE));
                        cert.next().write_tagged(Tag::context(0), |value| value.write_bytes(der));
                    });
                });
            }
        });
    });
    let keys = construct_der(|writer| {
        writer.write_sequence(|bags| {
            bag(bags.next(), SHROUDED_KEY_BAG, Some((name, id.as_ref())), |value| {
                value.write_sequence(|shrouded| {
                    let secret = Sealed::new(key, &password);
                    secret.write_algorithm(shrouded.next());
                    shrouded.next().write_bytes(&secret.bytes);
                });
            });
        });
    });
    let safe = construct_der(|writer| {
        writer.write_sequence(|safe| {
            content(safe.next(), ENCRYPTED_DATA, |data| {
                data.write_sequence(|data| {
                    data.next().write_u8(0);
                    data.next().write_sequence(|info| {
                        let sealed = Sealed::new(&certificates, &password);
                        info.next().write_oid(&oid(DATA));
                        sealed.write_algorithm(info.next());
                        info.next().write_tagged_implicit(Tag::context(0), |bytes| bytes.write_bytes(&sealed.bytes));
                    });
                });
            });
            content(safe.next(), DATA, |data| data.write_bytes(&keys));
        });
    });
    let salt = random::<8>();
    let mac = mac(Hash::Sha1, &password, &salt, ITERATIONS, &safe);
    construct_der(|writer| {
        writer.write_sequence(|pfx| {
            pfx.next().write_u8(3);
            content(pfx.next(), DATA, |data| data.write_bytes(&safe));
            pfx.next().write_sequence(|protection| {
                protection.next().write_sequence(|info| {
                    info.next().write_sequence(|algorithm| {
                        algorithm.next().write_oid(&oid(SHA1));
                        algorithm.next().write_null();
                    });
                    info.next().write_bytes(mac.as_ref());
                });
                protection.next().write_bytes(&salt);
                protection.next().write_u32(ITERATIONS);
            });
        });
    })
}

/// Whether `password` opens it. `Err`: it is no PKCS#12.
pub fn opens(bytes: &[u8], password: &str) -> Result<Opens, NoPkcs12> {
    let (safe, protection) = yasna::parse_ber(bytes, |reader| {
        reader.read_sequence(|pfx| {
            pfx.next().read_u8()?;
            let safe = pfx.next().read_sequence(|info| {
                let kind = info.next().read_oid()?;
                info.next().read_tagged(Tag::context(0), |value| {
                    if kind == oid(DATA) { value.read_bytes().map(Some) } else { value.read_der().map(|_| None) }
                })
            })?;
            let protection = pfx.read_optional(|mac| mac.read_sequence(read_protection))?;
            Ok((safe, protection))
        })
    })
    .map_err(|_| NoPkcs12)?;
    let (Some(safe), Some(protection)) = (safe, protection) else { return Ok(Opens::Unknown) };
    let hash = match protection.hash {
        hash if hash == oid(SHA1) => Hash::Sha1,
        hash if hash == oid(SHA256) => Hash::Sha256,
        _ => return Ok(Opens::Unknown),
    };
    // A file from somewhere may ask for hours of work.
    if protection.iterations > MOST_ITERATIONS {
        return Ok(Opens::Unknown);
    }
    let ours = mac(hash, &bmp(password), &protection.salt, protection.iterations, &safe);
    let same = constant_time::verify_slices_are_equal(ours.as_ref(), &protection.mac).is_ok();
    Ok(if same { Opens::Yes } else { Opens::No })
}

/// Bytes that are no PKCS#12.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no PKCS#12")]
pub struct NoPkcs12;

/// `MacData` as read.
struct Protection {
    hash: ObjectIdentifier,
    mac: Vec<u8>,
    salt: Vec<u8>,
    iterations: u32,
}

#[expect(clippy::redundant_closure_for_method_calls, reason = "the methods themselves are for one lifetime, and a reader has any")]
fn read_protection(mac: &mut yasna::BERReaderSeq<'_, '_>) -> yasna::ASN1Result<Protection> {
    let (hash, digest) = mac.next().read_sequence(|info| {
        let hash = info.next().read_sequence(|algorithm| {
            let hash = algorithm.next().read_oid()?;
            algorithm.read_optional(|null| null.read_null())?;
            Ok(hash)
        })?;
        Ok((hash, info.next().read_bytes()?))
    })?;
    let salt = mac.next().read_bytes()?;
    let iterations = mac.read_optional(|number| number.read_u32())?.unwrap_or(1);
    Ok(Protection { hash, mac: digest, salt, iterations })
}

/// Bytes under pbeWithSHAAnd3-KeyTripleDES-CBC, with what undoes it beside the password.
struct Sealed {
    salt: [u8; 8],
    bytes: Vec<u8>,
}

impl Sealed {
    fn new(plain: &[u8], password: &[u8]) -> Self {
        let salt = random::<8>();
        let key = derive(Hash::Sha1, Use::Key, password, &salt, ITERATIONS, 24);
        let iv = derive(Hash::Sha1, Use::Iv, password, &salt, ITERATIONS, BLOCK);
        let cipher = TdesEde3::new_from_slice(&key).expect("3DES has keys of 24 bytes");
        // PKCS#7 padding: its length, as often as it is long.
        let pad = BLOCK - plain.len() % BLOCK;
        let mut padded = Zeroizing::new(plain.to_vec());
        padded.resize(plain.len() + pad, pad as u8);
        let mut before: [u8; BLOCK] = iv[..].try_into().expect("a block was asked for");
        let mut bytes = Vec::with_capacity(padded.len());
        for block in padded.chunks_exact(BLOCK) {
            for (byte, plain) in before.iter_mut().zip(block) {
                *byte ^= plain;
            }
            let mut block = before.into();
            cipher.encrypt_block(&mut block);
            before = block.into();
            bytes.extend(before);
        }
        Self { salt, bytes }
    }

    fn write_algorithm(&self, writer: DERWriter<'_>) {
        writer.write_sequence(|algorithm| {
            algorithm.next().write_oid(&oid(PBE_SHA1_3DES));
            algorithm.next().write_sequence(|parameters| {
                parameters.next().write_bytes(&self.salt);
                parameters.next().write_u32(ITERATIONS);
            });
        });
    }
}

/// `ContentInfo`.
fn content(writer: DERWriter<'_>, kind: &[u64], value: impl FnOnce(DERWriter<'_>)) {
    writer.write_sequence(|info| {
        info.next().write_oid(&oid(kind));
        info.next().write_tagged(Tag::context(0), value);
    });
}

/// `SafeBag`, with friendly name and local key identifier where there are any.
fn bag(writer: DERWriter<'_>, kind: &[u64], own: Option<(&str, &[u8])>, value: impl FnOnce(DERWriter<'_>)) {
    writer.write_sequence(|bag| {
        bag.next().write_oid(&oid(kind));
        bag.next().write_tagged(Tag::context(0), value);
        let Some((name, id)) = own else { return };
        bag.next().write_set_of(|attributes| {
            attributes.next().write_sequence(|attribute| {
                attribute.next().write_oid(&oid(FRIENDLY_NAME));
                attribute.next().write_set_of(|values| values.next().write_bmp_string(name));
            });
            attributes.next().write_sequence(|attribute| {
                attribute.next().write_oid(&oid(LOCAL_KEY_ID));
                attribute.next().write_set_of(|values| values.next().write_bytes(id));
            });
        });
    });
}

#[derive(Clone, Copy)]
enum Hash {
    Sha1,
    Sha256,
}

impl Hash {
    fn digest(self, bytes: &[u8]) -> digest::Digest {
        digest::digest(
            match self {
                Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
                Self::Sha256 => &digest::SHA256,
            },
            bytes,
        )
    }
}

/// What derived bytes are for (RFC 7292 appendix B.3).
#[derive(Clone, Copy)]
enum Use {
    Key = 1,
    Iv = 2,
    Mac = 3,
}

fn mac(hash: Hash, password: &[u8], salt: &[u8], iterations: u32, bytes: &[u8]) -> hmac::Tag {
    let (algorithm, len) = match hash {
        Hash::Sha1 => (hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, 20),
        Hash::Sha256 => (hmac::HMAC_SHA256, 32),
    };
    hmac::sign(&hmac::Key::new(algorithm, &derive(hash, Use::Mac, password, salt, iterations, len)), bytes)
}

/// RFC 7292 appendix B.2, for hashes with blocks of 64 bytes.
fn derive(hash: Hash, purpose: Use, password: &[u8], salt: &[u8], iterations: u32, len: usize) -> Zeroizing<Vec<u8>> {
    const V: usize = 64;
    let fill = |bytes: &[u8]| bytes.iter().copied().cycle().take(bytes.len().div_ceil(V) * V).collect::<Vec<_>>();
    let mut input = Zeroizing::new([fill(salt), fill(password)].concat());
    let mut derived = Zeroizing::new(Vec::with_capacity(len + 32));
    while derived.len() < len {
        let mut a = hash.digest(&[&[purpose as u8; V][..], &input].concat());
        for _ in 1..iterations {
            a = hash.digest(a.as_ref());
        }
        derived.extend(a.as_ref());
        // Every block of the input grows by this one and by one.
        let b: Vec<u8> = a.as_ref().iter().copied().cycle().take(V).collect();
        for block in input.chunks_exact_mut(V) {
            let mut carry = 1;
            for (byte, add) in block.iter_mut().zip(&b).rev() {
                carry += u16::from(*byte) + u16::from(*add);
                *byte = carry as u8;
                carry >>= 8;
            }
        }
    }
    derived.truncate(len);
    derived
}

/// UTF-16, big endian, with a zero at its end (RFC 7292 appendix B.1).
fn bmp(password: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(password.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system's random numbers never fail once the process runs");
    bytes
}

fn oid(arcs: &[u64]) -> ObjectIdentifier {
    ObjectIdentifier::from_slice(arcs)
}

const BLOCK: usize = 8;

/// What OpenSSL takes too; a long password needs none.
const ITERATIONS: u32 = 2048;

/// A second of work or two.
const MOST_ITERATIONS: u32 = 5_000_000;

const DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 1];
const ENCRYPTED_DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 6];
const SHROUDED_KEY_BAG: &[u64] = &[1, 2, 840, 113_549, 1, 12, 10, 1, 2];
const CERT_BAG: &[u64] = &[1, 2, 840, 113_549, 1, 12, 10, 1, 3];
const X509_CERTIFICATE: &[u64] = &[1, 2, 840, 113_549, 1, 9, 22, 1];
const FRIENDLY_NAME: &[u64] = &[1, 2, 840, 113_549, 1, 9, 20];
const LOCAL_KEY_ID: &[u64] = &[1, 2, 840, 113_549, 1, 9, 21];
const PBE_SHA1_3DES: &[u64] = &[1, 2, 840, 113_549, 1, 12, 1, 3];
const SHA1: &[u64] = &[1, 3, 14, 3, 2, 26];
const SHA256: &[u64] = &[2, 16, 840, 1, 101, 3, 4, 2, 1];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_password_opens_it() {
        let p12 = write(&[b"certificate"], b"key", "alice", "päss");
        assert_eq!(opens(&p12, "päss"), Ok(Opens::Yes));
        for wrong in ["", "pass", "päss "] {
            assert_eq!(opens(&p12, wrong), Ok(Opens::No), "{wrong:?}");
        }
    }

    #[test]
    fn the_key_and_the_certificate_are_not_in_it_in_the_clear() {
        let p12 = write(&[b"a certificate of some length"], b"a key of some length", "alice", "secret");
        for word in [&b"certificate"[..], b"of some", b"secret"] {
            assert!(!p12.windows(word.len()).any(|window| window == word), "{}", word.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_pkcs12_says_so() {
        let p12 = write(&[b"certificate"], b"key", "alice", "secret");
        for bytes in [&b""[..], b"-----BEGIN CERTIFICATE-----", &[0x30, 0], &p12[..p12.len() - 1]] {
            assert_eq!(opens(bytes, "secret"), Err(NoPkcs12), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_file_that_asks_for_hours_is_not_worked_on() {
        let many = construct_der(|writer| {
            writer.write_sequence(|pfx| {
                pfx.next().write_u8(3);
                content(pfx.next(), DATA, |data| data.write_bytes(b""));
                pfx.next().write_sequence(|protection| {
                    protection.next().write_sequence(|info| {
                        info.next().write_sequence(|algorithm| algorithm.next().write_oid(&oid(SHA256)));
                        info.next().write_bytes(&[0; 32]);
                    });
                    protection.next().write_bytes(b"salt");
                    protection.next().write_u32(u32::MAX);
                });
            });
        });
        assert_eq!(opens(&many, "x"), Ok(Opens::Unknown));
    }
}
