//! Bytes under a password: written with 3DES (RFC 7292 appendix C), read with that or with AES (PBES2, RFC 8018 §6.2).

use aws_lc_rs::cipher::{AES_128, AES_192, AES_256, Algorithm, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use des::{
    TdesEde3,
    cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit},
};
use yasna::{ASN1Error, ASN1ErrorKind, ASN1Result, BERReader, BERReaderSeq, DERWriter};
use zeroize::Zeroizing;

use super::{
    Unread,
    derive::{Hash, Password, Salted, Use, Work},
    name, oid,
};

/// Bytes under pbeWithSHAAnd3-KeyTripleDES-CBC, with what undoes it beside the password.
pub(super) struct Sealed {
    salted: Salted,
    pub(super) bytes: Vec<u8>,
}

impl Sealed {
    pub(super) fn new(plain: &[u8], password: &Password<'_>) -> Self {
        let salted = Salted::new();
        let (cipher, mut before) = triple_des(&salted, password, &mut Work::ours()).expect("its own work is not bounded");
        // PKCS#7 padding: its length, as often as it is long.
        let pad = BLOCK - plain.len() % BLOCK;
        let mut padded = Zeroizing::new(plain.to_vec());
        padded.resize(plain.len() + pad, pad as u8);
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
        Self { salted, bytes }
    }

    pub(super) fn write_algorithm(&self, writer: DERWriter<'_>) {
        writer.write_sequence(|algorithm| {
            algorithm.next().write_oid(&oid(PBE_SHA1_3DES));
            algorithm.next().write_sequence(|parameters| {
                parameters.next().write_bytes(&self.salted.salt);
                parameters.next().write_u32(self.salted.iterations);
            });
        });
    }
}

/// Bytes as they come, under whatever it says.
pub(super) struct Locked {
    pub(super) lock: Lock,
    pub(super) bytes: Vec<u8>,
}

/// An `AlgorithmIdentifier`, as far as it is known here.
pub(super) enum Lock {
    /// pbeWithSHAAnd3-KeyTripleDES-CBC.
    TripleDes(Salted),
    /// PBES2 with PBKDF2 and AES-CBC.
    Aes { salted: Salted, prf: Hash, cipher: Aes, iv: [u8; 16] },
    /// Another, by its name.
    Other(String),
}

impl Locked {
    /// What they are. A wrong password gives no padding, save by chance.
    pub(super) fn open(self, password: &Password<'_>, work: &mut Work) -> Result<Zeroizing<Vec<u8>>, Unread> {
        let mut bytes = Zeroizing::new(self.bytes);
        match self.lock {
            Lock::TripleDes(salted) => {
                let (cipher, before) = triple_des(&salted, password, work)?;
                let length = un_triple_des(&cipher, before, &mut bytes).ok_or(Unread::Password)?;
                bytes.truncate(length);
            }
            Lock::Aes { salted, prf, cipher, iv } => {
                let key = salted.pbkdf2(prf, password, cipher.key_len, work)?;
                let key = UnboundCipherKey::new(cipher.algorithm, &key).and_then(PaddedBlockDecryptingKey::cbc_pkcs7);
                let plain = key.and_then(|key| key.decrypt(&mut bytes, DecryptionContext::Iv128(iv.into())).map(|plain| plain.len()));
                bytes.truncate(plain.map_err(|_| Unread::Password)?);
            }
            Lock::Other(name) => return Err(Unread::Protected(name)),
        }
        Ok(bytes)
    }
}

impl Lock {
    pub(super) fn read(reader: BERReader<'_, '_>) -> ASN1Result<Self> {
        reader.read_sequence(|algorithm| {
            let kind = algorithm.next().read_oid()?;
            if kind == oid(PBE_SHA1_3DES) {
                return algorithm.next().read_sequence(|parameters| {
                    let salt = parameters.next().read_bytes()?;
                    Ok(Self::TripleDes(Salted { salt, iterations: parameters.next().read_u32()? }))
                });
            }
            if kind == oid(PBES2) {
                return algorithm.next().read_sequence(read_pbes2);
            }
            pass_over(algorithm)?;
            Ok(Self::Other(name(&kind)))
        })
    }
}

/// `PBES2-params` (RFC 8018 appendix A.4).
fn read_pbes2(parameters: &mut BERReaderSeq<'_, '_>) -> ASN1Result<Lock> {
    let derivation = parameters.next().read_sequence(|derivation| {
        let kind = derivation.next().read_oid()?;
        if kind == oid(PBKDF2) {
            return derivation.next().read_sequence(read_pbkdf2);
        }
        pass_over(derivation)?;
        Ok(Err(name(&kind)))
    })?;
    let scheme = parameters.next().read_sequence(|scheme| {
        let kind = scheme.next().read_oid()?;
        let Some(aes) = AES.iter().find(|aes| kind.components() == aes.kind) else {
            pass_over(scheme)?;
            return Ok(Err(name(&kind)));
        };
        let iv = scheme.next().read_bytes()?.try_into().map_err(|_| invalid())?;
        Ok(Ok((*aes, iv)))
    })?;
    let ((salted, key_len, prf), (cipher, iv)) = match (derivation, scheme) {
        (Ok(derivation), Ok(scheme)) => (derivation, scheme),
        (Err(name), _) | (_, Err(name)) => return Ok(Lock::Other(format!("PBES2 with {name}"))),
    };
    if key_len.is_some_and(|len| usize::try_from(len) != Ok(cipher.key_len)) {
        return Err(invalid());
    }
    Ok(Lock::Aes { salted, prf, cipher, iv })
}

/// Salt and iterations, the length of the key where it is told, and the hash; or what of it is not known here.
type Derivation = Result<(Salted, Option<u32>, Hash), String>;

/// `PBKDF2-params` (RFC 8018 appendix A.2).
#[expect(clippy::redundant_closure_for_method_calls, reason = "the methods themselves are for one lifetime, and a reader has any")]
fn read_pbkdf2(parameters: &mut BERReaderSeq<'_, '_>) -> ASN1Result<Derivation> {
    let salt = parameters.next().read_bytes()?;
    let iterations = parameters.next().read_u32()?;
    let key_len = parameters.read_optional(|number| number.read_u32())?;
    let prf = parameters.read_optional(|prf| {
        prf.read_sequence(|prf| {
            let kind = prf.next().read_oid()?;
            pass_over(prf)?;
            Ok(Hash::of_hmac(&kind).ok_or_else(|| name(&kind)))
        })
    })?;
    Ok(prf.unwrap_or(Ok(Hash::Sha1)).map(|prf| (Salted { salt, iterations }, key_len, prf)))
}

/// Parameters that there may be.
#[expect(clippy::redundant_closure_for_method_calls, reason = "the methods themselves are for one lifetime, and a reader has any")]
pub(super) fn pass_over(algorithm: &mut BERReaderSeq<'_, '_>) -> ASN1Result<()> {
    algorithm.read_optional(|parameters| parameters.read_der()).map(drop)
}

fn invalid() -> ASN1Error {
    ASN1Error::new(ASN1ErrorKind::Invalid)
}

/// The cipher, and what stands for the block before the first.
fn triple_des(salted: &Salted, password: &Password<'_>, work: &mut Work) -> Result<(TdesEde3, [u8; BLOCK]), Unread> {
    let key = salted.derive(Hash::Sha1, Use::Key, password, 24, work)?;
    let iv = salted.derive(Hash::Sha1, Use::Iv, password, BLOCK, work)?;
    let cipher = TdesEde3::new_from_slice(&key).expect("3DES has keys of 24 bytes");
    Ok((cipher, iv[..].try_into().expect("a block was asked for")))
}

/// In place. How much of it is no padding; `None`: there is none.
fn un_triple_des(cipher: &TdesEde3, mut before: [u8; BLOCK], bytes: &mut [u8]) -> Option<usize> {
    let (blocks, []) = bytes.as_chunks_mut::<BLOCK>() else { return None };
    for block in blocks {
        let sealed = *block;
        let mut plain = sealed.into();
        cipher.decrypt_block(&mut plain);
        *block = plain.into();
        for (byte, before) in block.iter_mut().zip(before) {
            *byte ^= before;
        }
        before = sealed;
    }
    let pad = *bytes.last()?;
    let length = bytes.len().checked_sub(usize::from(pad)).filter(|_| (1..=BLOCK).contains(&usize::from(pad)))?;
    bytes[length..].iter().all(|byte| *byte == pad).then_some(length)
}

const BLOCK: usize = 8;

/// AES-CBC with one length of key.
#[derive(Clone, Copy)]
pub(super) struct Aes {
    kind: &'static [u64],
    algorithm: &'static Algorithm,
    key_len: usize,
}

const AES: [Aes; 3] = [
    Aes { kind: &[2, 16, 840, 1, 101, 3, 4, 1, 2], algorithm: &AES_128, key_len: 16 },
    Aes { kind: &[2, 16, 840, 1, 101, 3, 4, 1, 22], algorithm: &AES_192, key_len: 24 },
    Aes { kind: &[2, 16, 840, 1, 101, 3, 4, 1, 42], algorithm: &AES_256, key_len: 32 },
];

const PBE_SHA1_3DES: &[u64] = &[1, 2, 840, 113_549, 1, 12, 1, 3];
const PBKDF2: &[u64] = &[1, 2, 840, 113_549, 1, 5, 12];
const PBES2: &[u64] = &[1, 2, 840, 113_549, 1, 5, 13];
