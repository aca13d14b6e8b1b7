//! CMS SignedData (RFC 5652): a profile with a signature around it, and out of it again.
//!
//! The CA's own key may sign certificates and nothing else, so it issues a certificate for one signature, whose key is forgotten afterwards.

use std::time::SystemTime;

use aws_lc_rs::digest;
use rcgen::SigningKey;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};
use yasna::{DERWriter, Tag, construct_der, models::ObjectIdentifier};

use super::{
    CertError, ber,
    issue::{Authority, IssueError},
};

/// `content`, signed by a certificate of the CA made for it; both certificates come with it.
pub fn sign(content: &[u8], authority: &Authority, now: SystemTime) -> Result<Vec<u8>, IssueError> {
    let (signer, key) = authority.signer(now)?;
    let unparsable = |says| CertError::Unparsable { path: "the CA".into(), says };
    let ca = CertificateDer::from_pem_slice(authority.pem().as_bytes()).map_err(|error| unparsable(error.to_string()))?;
    let (_, leaf) = X509Certificate::from_der(&signer).map_err(|error| unparsable(error.to_string()))?;
    let attributes = attributes(content);
    // Signed as the SET OF they are, stored under a tag of the structure's own (RFC 5652 §5.4).
    let signature =
        key.sign(&construct_der(|writer| writer.write_set_of(|set| attributes.iter().for_each(|der| set.next().write_der(der)))))?;

    Ok(construct_der(|writer| {
        writer.write_sequence(|info| {
            info.next().write_oid(&oid(SIGNED_DATA));
            info.next().write_tagged(Tag::context(0), |value| {
                value.write_sequence(|signed| {
                    signed.next().write_u8(1);
                    signed.next().write_set_of(|algorithms| sha256(algorithms.next()));
                    signed.next().write_sequence(|inner| {
                        inner.next().write_oid(&oid(DATA));
                        inner.next().write_tagged(Tag::context(0), |value| value.write_bytes(content));
                    });
                    signed.next().write_tagged_implicit(Tag::context(0), |certificates| {
                        certificates.write_set_of(|set| {
                            set.next().write_der(&signer);
                            set.next().write_der(&ca);
                        });
                    });
                    signed.next().write_set_of(|signers| {
                        signers.next().write_sequence(|by| {
                            by.next().write_u8(1);
                            by.next().write_sequence(|id| {
                                id.next().write_der(leaf.issuer().as_raw());
                                id.next().write_bigint_bytes(leaf.raw_serial(), true);
                            });
                            sha256(by.next());
                            by.next().write_tagged_implicit(Tag::context(0), |writer| {
                                writer.write_set_of(|set| attributes.iter().for_each(|der| set.next().write_der(der)));
                            });
                            by.next().write_sequence(|algorithm| algorithm.next().write_oid(&oid(ECDSA_SHA256)));
                            by.next().write_bytes(&signature);
                        });
                    });
                });
            });
        });
    }))
}

/// What SignedData carries. Its signature is not judged: that is the device's part. `None`: it is no SignedData, or carries nothing.
#[expect(clippy::redundant_closure_for_method_calls, reason = "the methods themselves are for one lifetime, and a reader has any")]
pub fn content(bytes: &[u8]) -> Option<Vec<u8>> {
    let read = ber::parse(bytes, |reader| {
        reader.read_sequence(|info| {
            let kind = info.next().read_oid()?;
            if kind != oid(SIGNED_DATA) {
                return Err(yasna::ASN1Error::new(yasna::ASN1ErrorKind::Invalid));
            }
            info.next().read_tagged(Tag::context(0), |value| {
                value.read_sequence(|signed| {
                    signed.next().read_u8()?;
                    signed.next().read_der()?;
                    let content = signed.next().read_sequence(|inner| {
                        inner.next().read_oid()?;
                        inner.read_optional(|content| content.read_tagged(Tag::context(0), |bytes| bytes.read_bytes()))
                    })?;
                    // Certificates, revocations, signatures.
                    while signed.read_optional(|rest| rest.read_der())?.is_some() {}
                    Ok(content)
                })
            })
        })
    });
    read.ok().flatten()
}

/// The signed attributes that must be there: what kind of content, and its hash.
fn attributes(content: &[u8]) -> [Vec<u8>; 2] {
    let attribute = |kind, value: &dyn Fn(DERWriter<'_>)| {
        construct_der(|writer| {
            writer.write_sequence(|attribute| {
                attribute.next().write_oid(&oid(kind));
                attribute.next().write_set_of(|values| value(values.next()));
            });
        })
    };
    let hash = digest::digest(&digest::SHA256, content);
    [attribute(CONTENT_TYPE, &|value| value.write_oid(&oid(DATA))), attribute(MESSAGE_DIGEST, &|value| value.write_bytes(hash.as_ref()))]
}

fn sha256(writer: DERWriter<'_>) {
    writer.write_sequence(|algorithm| algorithm.next().write_oid(&oid(SHA256)));
}

fn oid(arcs: &[u64]) -> ObjectIdentifier {
    ObjectIdentifier::from_slice(arcs)
}

const DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 1];
const SIGNED_DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 2];
const CONTENT_TYPE: &[u64] = &[1, 2, 840, 113_549, 1, 9, 3];
const MESSAGE_DIGEST: &[u64] = &[1, 2, 840, 113_549, 1, 9, 4];
const SHA256: &[u64] = &[2, 16, 840, 1, 101, 3, 4, 2, 1];
const ECDSA_SHA256: &[u64] = &[1, 2, 840, 10_045, 4, 3, 2];

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn what_was_signed_comes_out_again() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let signed = sign(b"profile", &Authority::new("Test CA", now).unwrap(), now).unwrap();
        assert_eq!(content(&signed).unwrap(), b"profile");
        assert_eq!(content(&signed[..signed.len() - 1]), None);
        assert_eq!(content(b"<?xml"), None);
        // The length of what is passed over leads past all numbers.
        let hostile =
            [&[0x30, 0x1c, 0x06, 9, 42, 134, 72, 134, 247, 13, 1, 7, 2, 0xa0, 15, 0x30, 13, 0x02, 1, 1, 0x31, 0x88][..], &[0xff; 8]]
                .concat();
        assert_eq!(content(&hostile), None);
    }
}
