//! PKCS#12 (RFC 7292): a client's certificate and key in one file, under a password, as devices import it.
//!
//! | file | what |
//! | --- | --- |
//! | `p12.rs` | what is written |
//! | `p12/read.rs` | what is read |
//! | `p12/lock.rs` | bytes under a password |
//! | `p12/mac.rs` | the MAC over all of it |
//! | `p12/derive.rs` | keys from a password, and how much work that may be |
//!
//! Written are the old algorithms, 3DES and SHA-1, since every Apple system reads those and some read nothing newer. They protect nothing that
//! is stored beside its password; where the file travels alone, the password is 256 random bits or the owner's choice. Read are the newer ones too.

mod derive;
mod lock;
mod mac;
mod read;

use aws_lc_rs::{digest, rand};
use yasna::{DERWriter, Tag, construct_der, models::ObjectIdentifier};

pub use derive::Work;
pub use read::{Held, NoPkcs12, Opens, Unread, opens, read};

use derive::Password;
use lock::Sealed;
use mac::Mac;

/// The PKCS#12 of a chain (DER, the leaf first) and its private key (PKCS#8 DER); `name` is what devices show.
pub fn write(chain: &[&[u8]], key: &[u8], name: &str, password: &str) -> Vec<u8> {
    let password = Password::new(password);
    // What ties the key to its certificate; any bytes do.
    let id = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, chain.first().copied().unwrap_or_default());
    let certificates = construct_der(|writer| {
        writer.write_sequence(|bags| {
            for (index, der) in chain.iter().enumerate() {
                certificate(bags.next(), (index == 0).then_some((name, id.as_ref())), der);
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
    construct_der(|writer| {
        writer.write_sequence(|pfx| {
            pfx.next().write_u8(3);
            content(pfx.next(), DATA, |data| data.write_bytes(&safe));
            Mac::new(&safe, &password).write(pfx.next());
        });
    })
}

/// `ContentInfo`.
fn content(writer: DERWriter<'_>, kind: &[u64], value: impl FnOnce(DERWriter<'_>)) {
    writer.write_sequence(|info| {
        info.next().write_oid(&oid(kind));
        info.next().write_tagged(Tag::context(0), value);
    });
}

/// A `SafeBag` with a certificate.
fn certificate(writer: DERWriter<'_>, own: Option<(&str, &[u8])>, der: &[u8]) {
    bag(writer, CERT_BAG, own, |value| {
        value.write_sequence(|cert| {
            cert.next().write_oid(&oid(X509_CERTIFICATE));
            cert.next().write_tagged(Tag::context(0), |value| value.write_bytes(der));
        });
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

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system's random numbers never fail once the process runs");
    bytes
}

fn oid(arcs: &[u64]) -> ObjectIdentifier {
    ObjectIdentifier::from_slice(arcs)
}

/// What people call a way to protect something that is not read here.
fn name(kind: &ObjectIdentifier) -> String {
    let arcs = kind.components();
    if let Some((_, name)) = NAMES.iter().find(|(known, _)| arcs == known) {
        return (*name).to_owned();
    }
    // No identifier in use has as many; a file from somewhere may.
    let shown: Vec<_> = arcs.iter().take(20).map(u64::to_string).collect();
    format!("the algorithm {}", shown.join("."))
}

const NAMES: [(&[u64], &str); 10] = [
    (&[1, 2, 840, 113_549, 1, 12, 1, 1], "RC4 (128 bits)"),
    (&[1, 2, 840, 113_549, 1, 12, 1, 2], "RC4 (40 bits)"),
    (&[1, 2, 840, 113_549, 1, 12, 1, 4], "3DES with two keys"),
    (&[1, 2, 840, 113_549, 1, 12, 1, 5], "RC2 (128 bits)"),
    (&[1, 2, 840, 113_549, 1, 12, 1, 6], "RC2 (40 bits)"),
    (PBMAC1, "PBMAC1"),
    (&[1, 2, 840, 113_549, 3, 7], "3DES"),
    (&[1, 3, 6, 1, 4, 1, 11_591, 4, 11], "scrypt"),
    (&[1, 2, 840, 113_549, 1, 7, 2], "a signature"),
    (&[1, 2, 840, 113_549, 1, 7, 3], "a public key"),
];

/// A MAC of another kind (RFC 9579).
const PBMAC1: &[u64] = &[1, 2, 840, 113_549, 1, 5, 14];

const DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 1];
const ENCRYPTED_DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 6];
const SHROUDED_KEY_BAG: &[u64] = &[1, 2, 840, 113_549, 1, 12, 10, 1, 2];
const CERT_BAG: &[u64] = &[1, 2, 840, 113_549, 1, 12, 10, 1, 3];
const X509_CERTIFICATE: &[u64] = &[1, 2, 840, 113_549, 1, 9, 22, 1];
const FRIENDLY_NAME: &[u64] = &[1, 2, 840, 113_549, 1, 9, 20];
const LOCAL_KEY_ID: &[u64] = &[1, 2, 840, 113_549, 1, 9, 21];

#[cfg(test)]
mod tests;
