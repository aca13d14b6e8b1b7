use std::{
    fs,
    process::Command,
    time::{Duration, UNIX_EPOCH},
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tempfile::TempDir;

use super::{
    derive::{Hash, Salted, Use},
    lock::{Lock, Locked},
    *,
};
use crate::certs::issue::Authority;

/// A client's certificate with its CA and its key, in files that OpenSSL packs, and in DER.
struct Client {
    dir: TempDir,
    chain: Vec<Vec<u8>>,
    key: Vec<u8>,
}

impl Client {
    fn new() -> Self {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let ca = Authority::new("Test CA", now).unwrap();
        let pair = ca.client("alice", Duration::from_secs(86_400), now).unwrap();
        let dir = TempDir::new().unwrap();
        for (name, text) in [("leaf.pem", pair.chain.as_str()), ("leaf.key", &pair.key), ("ca.pem", ca.pem()), ("password", PASSWORD)] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let chain = [pair.chain.as_str(), ca.pem()].map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec());
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap().secret_der().to_vec();
        Self { dir, chain: chain.to_vec(), key }
    }

    /// What OpenSSL writes, under [`PASSWORD`].
    fn openssl(&self, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new("openssl").args(arguments).current_dir(self.dir.path()).output();
        let output = output.unwrap_or_else(|error| panic!("cannot run openssl, which tests/run installs: {error}"));
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn packed(&self, more: &[&str]) -> Vec<u8> {
        let export = ["pkcs12", "-export", "-in", "leaf.pem", "-inkey", "leaf.key", "-certfile", "ca.pem", "-passout", "file:password"];
        self.openssl(&[&export, more].concat())
    }

    #[track_caller]
    fn is_in(&self, bytes: &[u8]) {
        let held = read(bytes, PASSWORD, &mut Work::default()).unwrap();
        assert!(held.chain == self.chain && *held.key == self.key, "{held:?}");
    }
}

/// Its letters tell UTF-8 from UTF-16.
const PASSWORD: &str = "pässwörd";

fn opened(bytes: &[u8], password: &str) -> Result<Opens, NoPkcs12> {
    opens(bytes, password, &mut Work::default())
}

fn unread(bytes: &[u8], password: &str) -> Unread {
    read(bytes, password, &mut Work::default()).unwrap_err()
}

/// A PKCS#12 with nothing in it and a MAC of this kind, which is wrong.
fn empty(kind: &[u64], iterations: u32) -> Vec<u8> {
    construct_der(|writer| {
        writer.write_sequence(|pfx| {
            pfx.next().write_u8(3);
            content(pfx.next(), DATA, |data| data.write_bytes(&[0x30, 0]));
            pfx.next().write_sequence(|mac| {
                mac.next().write_sequence(|info| {
                    info.next().write_sequence(|algorithm| {
                        algorithm.next().write_oid(&oid(kind));
                        algorithm.next().write_sequence(|parameters| parameters.next().write_bytes(b"parameters"));
                    });
                    info.next().write_bytes(&[0; 32]);
                });
                mac.next().write_bytes(b"salt");
                mac.next().write_u32(iterations);
            });
        });
    })
}

#[test]
fn what_was_written_is_read_and_with_no_other_password() {
    let client = Client::new();
    let chain: Vec<_> = client.chain.iter().map(Vec::as_slice).collect();
    let bytes = write(&chain, &client.key, "alice", PASSWORD);
    client.is_in(&bytes);
    assert_eq!(opened(&bytes, PASSWORD), Ok(Opens::Yes));
    for wrong in ["", "passwort", "pässwörd "] {
        assert_eq!((opened(&bytes, wrong), unread(&bytes, wrong)), (Ok(Opens::No), Unread::Password), "{wrong:?}");
    }
    for word in [&client.key[..], &client.chain[0], b"pass"] {
        assert!(!bytes.windows(word.len()).any(|window| window == word), "it is there in the clear");
    }
}

#[test]
fn what_openssl_writes_is_read() {
    let client = Client::new();
    for more in [
        &[][..],
        &["-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"],
        &["-keypbe", "AES-128-CBC", "-certpbe", "AES-192-CBC", "-macalg", "sha384", "-iter", "4096"],
        &["-keypbe", "AES-256-CBC", "-certpbe", "NONE", "-macalg", "sha512"],
        &["-nomac", "-certpbe", "AES-256-CBC"],
    ] {
        let bytes = client.packed(more);
        client.is_in(&bytes);
        assert_eq!(opened(&bytes, PASSWORD), Ok(Opens::Yes), "{more:?}");
        assert_eq!((opened(&bytes, "other"), unread(&bytes, "other")), (Ok(Opens::No), Unread::Password), "{more:?}");
    }
    // Nothing in this one is secret.
    let open = client.packed(&["-keypbe", "NONE", "-certpbe", "NONE", "-nomac"]);
    client.is_in(&open);
    assert_eq!(opened(&open, "other"), Ok(Opens::Yes));
}

/// `openssl pkcs12` has one hash for PBKDF2; `openssl pkcs8` has all, over the same algorithm identifiers.
#[test]
fn every_hash_of_pbkdf2_is_read() {
    let client = Client::new();
    for prf in ["hmacWithSHA1", "hmacWithSHA256", "hmacWithSHA384", "hmacWithSHA512"] {
        let pack =
            ["pkcs8", "-topk8", "-in", "leaf.key", "-outform", "DER", "-passout", "file:password", "-v2", "aes-256-cbc", "-v2prf", prf];
        let plain = locked(&client.openssl(&pack)).open(&Password::new(PASSWORD), &mut Work::default()).unwrap();
        assert!(*plain == client.key, "{prf}");
    }
    let scrypt =
        locked(&client.openssl(&["pkcs8", "-topk8", "-in", "leaf.key", "-outform", "DER", "-passout", "file:password", "-scrypt"]));
    let unread = scrypt.open(&Password::new(PASSWORD), &mut Work::default()).unwrap_err();
    assert_eq!(unread, Unread::Protected("PBES2 with scrypt".into()));
}

/// `EncryptedPrivateKeyInfo` (RFC 5958 §3).
fn locked(bytes: &[u8]) -> Locked {
    let read = yasna::parse_der(bytes, |reader| {
        reader.read_sequence(|info| {
            let lock = Lock::read(info.next())?;
            Ok(Locked { lock, bytes: info.next().read_bytes()? })
        })
    });
    read.unwrap()
}

#[test]
fn what_is_not_read_here_is_named() {
    let client = Client::new();
    let old = client.packed(&["-legacy"]);
    assert_eq!(unread(&old, PASSWORD), Unread::Protected("RC2 (40 bits)".into()));
    // Its MAC tells a password nevertheless.
    assert_eq!((opened(&old, PASSWORD), opened(&old, "other")), (Ok(Opens::Yes), Ok(Opens::No)));
    let without = client.packed(&["-legacy", "-nomac", "-certpbe", "PBE-SHA1-RC2-40"]);
    assert_eq!(opened(&without, PASSWORD), Ok(Opens::Unknown));
    let mixed = client.packed(&["-certpbe", "DES-EDE3-CBC"]);
    assert_eq!(unread(&mixed, PASSWORD).to_string(), "it is protected by PBES2 with 3DES, which is not read here");
    for (kind, says) in [(PBMAC1, "PBMAC1"), (&[1, 2, 3, 4][..], "the algorithm 1.2.3.4")] {
        let bytes = empty(kind, 1);
        assert_eq!((opened(&bytes, "x"), unread(&bytes, "x")), (Ok(Opens::Unknown), Unread::Protected(says.into())));
    }
    let long = name(&oid(&[1; 1000]));
    assert!(long.len() < 100, "{long}");
}

#[test]
fn a_file_lacks_a_certificate_or_a_key() {
    let client = Client::new();
    let alone = client.openssl(&["pkcs12", "-export", "-nocerts", "-inkey", "leaf.key", "-passout", "file:password"]);
    assert_eq!(unread(&alone, PASSWORD), Unread::NoCertificate);
    let alone = client.openssl(&["pkcs12", "-export", "-nokeys", "-in", "leaf.pem", "-passout", "file:password"]);
    assert_eq!((unread(&alone, PASSWORD), opened(&alone, PASSWORD)), (Unread::NoKey, Ok(Opens::Yes)));
}

/// As NSS and old Windows write it: lengths that are not told, strings in pieces, and the CA before the leaf.
#[test]
fn ber_and_another_order_are_read() {
    let (password, key) = (Password::new("secret"), [0x30, 2, 5, 0]);
    let bags = construct_der(|writer| {
        writer.write_sequence(|bags| {
            certificate(bags.next(), None, b"CA");
            certificate(bags.next(), Some(("leaf", b"1")), b"leaf");
            bag(bags.next(), &[1, 2, 840, 113_549, 1, 12, 10, 1, 1], Some(("leaf", b"1")), |value| value.write_der(&key));
        });
    });
    let safe = construct_der(|writer| writer.write_sequence(|safe| content(safe.next(), DATA, |data| data.write_bytes(&bags))));
    let mac = construct_der(|writer| Mac::new(&safe, &password).write(writer));
    let data = construct_der(|writer| writer.write_oid(&oid(DATA)));
    let pieces: Vec<u8> = safe.chunks(100).flat_map(|piece| [&[0x04, piece.len() as u8], piece].concat()).collect();
    let end = [0, 0];
    let bytes = [&[0x30, 0x80, 0x02, 1, 3, 0x30, 0x80][..], &data, &[0xa0, 0x80, 0x24, 0x80], &pieces, &end.repeat(3), &mac, &end];
    let held = read(&bytes.concat(), "secret", &mut Work::default()).unwrap();
    assert_eq!((&held.chain[..], &held.key[..]), (&[b"leaf".to_vec(), b"CA".to_vec()][..], &key[..]));
}

#[test]
fn what_is_cut_off_or_longer_is_no_pkcs12() {
    let client = Client::new();
    let mut bytes = client.packed(&[]);
    for cut in 0..bytes.len() {
        assert_eq!((opened(&bytes[..cut], PASSWORD), unread(&bytes[..cut], PASSWORD)), (Err(NoPkcs12), NoPkcs12.into()), "{cut}");
    }
    bytes.push(0);
    for bytes in [&bytes[..], b"-----BEGIN CERTIFICATE-----", &[0x30, 0]] {
        assert_eq!(opened(bytes, PASSWORD), Err(NoPkcs12), "{}", bytes.escape_ascii());
    }
    let long = vec![0x30; (1 << 20) + 1];
    assert_eq!((unread(&long, ""), opened(&long, "")), (Unread::TooLong, Ok(Opens::Unknown)));
}

#[test]
fn no_changed_byte_panics_or_goes_unnoticed() {
    every_byte_changed(&["-iter", "1"]);
}

#[test]
fn no_changed_byte_of_an_old_one_does_either() {
    every_byte_changed(&["-iter", "1", "-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"]);
}

fn every_byte_changed(more: &[&str]) {
    let client = Client::new();
    let bytes = client.packed(more);
    for at in 0..bytes.len() {
        let by = [0x01, 0x80, 0xff][at % 3];
        let mut changed = bytes.clone();
        changed[at] ^= by;
        if let Ok(held) = read(&changed, PASSWORD, &mut Work::of(1000)) {
            assert!(held.chain == client.chain && *held.key == client.key, "byte {at}");
        }
        // Without a MAC, what it would have caught is read.
        if let Some(bytes) = without_mac(&bytes, at, by) {
            drop(read(&bytes, PASSWORD, &mut Work::of(1000)));
        }
    }
}

/// The PKCS#12 without its MAC, and with a byte of its content changed, if it has that many.
#[expect(clippy::redundant_closure_for_method_calls, reason = "the methods themselves are for one lifetime, and a reader has any")]
fn without_mac(bytes: &[u8], at: usize, by: u8) -> Option<Vec<u8>> {
    let safe = yasna::parse_der(bytes, |reader| {
        reader.read_sequence(|pfx| {
            pfx.next().read_u8()?;
            let safe = pfx.next().read_sequence(|info| {
                info.next().read_oid()?;
                info.next().read_tagged(Tag::context(0), |value| value.read_bytes())
            });
            pfx.next().read_der()?;
            safe
        })
    });
    let mut safe = safe.unwrap();
    *safe.get_mut(at)? ^= by;
    Some(construct_der(|writer| {
        writer.write_sequence(|pfx| {
            pfx.next().write_u8(3);
            content(pfx.next(), DATA, |data| data.write_bytes(&safe));
        });
    }))
}

#[test]
fn a_file_gets_the_work_it_may_and_no_more() {
    let client = Client::new();
    // The MAC, the certificates and the key, each a thousand times.
    let bytes = client.packed(&["-iter", "1000"]);
    assert!(read(&bytes, PASSWORD, &mut Work::of(3000)).is_ok());
    assert_eq!(read(&bytes, PASSWORD, &mut Work::of(2999)).unwrap_err(), Unread::TooMuchWork);
    assert_eq!(opens(&bytes, PASSWORD, &mut Work::of(1000)), Ok(Opens::Yes));
    assert_eq!(opens(&bytes, PASSWORD, &mut Work::of(999)), Ok(Opens::Unknown));
    // Files share it.
    let mut work = Work::of(5000);
    assert!(read(&bytes, PASSWORD, &mut work).is_ok());
    assert_eq!(read(&bytes, PASSWORD, &mut work).unwrap_err(), Unread::TooMuchWork);

    let forever = empty(derive::SHA1, u32::MAX);
    assert_eq!((opened(&forever, "x"), unread(&forever, "x")), (Ok(Opens::Unknown), Unread::TooMuchWork));
}

/// The limit of a test is ten seconds.
#[test]
fn the_most_work_there_is_takes_seconds() {
    let (password, most) = (Password::new("secret"), Salted { salt: b"salt".to_vec(), iterations: 5_000_000 });
    let key = most.derive(Hash::Sha1, Use::Mac, &password, 20, &mut Work::default());
    assert_eq!(key.map(|key| key.len()), Ok(20));
    let more = Salted { iterations: 5_000_001, ..most };
    assert_eq!(more.derive(Hash::Sha1, Use::Mac, &password, 20, &mut Work::default()), Err(Unread::TooMuchWork));
}
