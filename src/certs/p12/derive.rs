//! Keys from a password: as PKCS#12 derives them (RFC 7292 appendix B), and by PBKDF2 (RFC 8018 §5.2). Either is slow on purpose; how slow, the
//! file says, so that whoever reads one from somewhere spends no more than [`Work`] allows.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use yasna::models::ObjectIdentifier;
use zeroize::Zeroizing;

use super::{Unread, random};

/// How much hashing may still be done for files from somewhere, in blocks of what is hashed: an iteration is one.
///
/// A file may ask for hours of it, in one place or in many, and a profile may hold many files.
#[derive(Debug)]
pub struct Work(u64);

impl Work {
    /// So many blocks.
    pub const fn of(blocks: u64) -> Self {
        Self(blocks)
    }

    /// What a file asks for that was written here is never too much.
    pub(super) const fn ours() -> Self {
        Self(u64::MAX)
    }

    fn spend(&mut self, blocks: u64) -> Result<(), Unread> {
        self.0 = self.0.checked_sub(blocks).ok_or(Unread::TooMuchWork)?;
        Ok(())
    }
}

/// A second or two.
impl Default for Work {
    fn default() -> Self {
        Self(5_000_000)
    }
}

/// A password as each of the two takes it.
pub(super) struct Password<'a> {
    /// PBKDF2 takes its UTF-8.
    text: &'a str,
    /// PKCS#12 takes UTF-16, big endian, with a zero at its end (RFC 7292 appendix B.1).
    bmp: Zeroizing<Vec<u8>>,
}

impl<'a> Password<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, bmp: Zeroizing::new(text.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect()) }
    }
}

/// What a key is derived from beside the password.
pub(super) struct Salted {
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
}

impl Salted {
    /// Random, as it is written here.
    pub(super) fn new() -> Self {
        Self { salt: random::<8>().to_vec(), iterations: ITERATIONS }
    }

    /// RFC 7292 appendix B.2.
    pub(super) fn derive(
        &self,
        hash: Hash,
        purpose: Use,
        password: &Password<'_>,
        len: usize,
        work: &mut Work,
    ) -> Result<Zeroizing<Vec<u8>>, Unread> {
        work.spend(self.cost(hash, &password.bmp, len))?;
        let v = hash.digest().block_len();
        let filled = |part: &[u8]| part.len().div_ceil(v) * v;
        // As large as it gets: nothing of the password is left behind where it was smaller.
        let mut input = Zeroizing::new(Vec::with_capacity(filled(&self.salt) + filled(&password.bmp)));
        for part in [&self.salt[..], &password.bmp] {
            input.extend(part.iter().copied().cycle().take(filled(part)));
        }
        let mut derived = Zeroizing::new(Vec::with_capacity(len + hash.len()));
        while derived.len() < len {
            let first = Zeroizing::new([&vec![purpose as u8; v][..], &input].concat());
            let mut a = digest::digest(hash.digest(), &first);
            for _ in 1..self.iterations {
                a = digest::digest(hash.digest(), a.as_ref());
            }
            derived.extend(a.as_ref());
            // Every block of the input grows by this one and by one.
            let b: Vec<u8> = a.as_ref().iter().copied().cycle().take(v).collect();
            for block in input.chunks_exact_mut(v) {
                let mut carry = 1;
                for (byte, add) in block.iter_mut().zip(&b).rev() {
                    carry += u16::from(*byte) + u16::from(*add);
                    *byte = carry as u8;
                    carry >>= 8;
                }
            }
        }
        derived.truncate(len);
        Ok(derived)
    }

    /// RFC 8018 §5.2, with HMAC.
    pub(super) fn pbkdf2(&self, hash: Hash, password: &Password<'_>, len: usize, work: &mut Work) -> Result<Zeroizing<Vec<u8>>, Unread> {
        let password = password.text.as_bytes();
        work.spend(self.cost(hash, password, len))?;
        let iterations = NonZeroU32::new(self.iterations).unwrap_or(NonZeroU32::MIN);
        let mut derived = Zeroizing::new(vec![0; len]);
        pbkdf2::derive(hash.pbkdf2(), iterations, &self.salt, password, &mut derived);
        Ok(derived)
    }

    /// In blocks.
    fn cost(&self, hash: Hash, password: &[u8], len: usize) -> u64 {
        let rounds = len.div_ceil(hash.len()) as u64;
        let input = (self.salt.len() + password.len()) / hash.digest().block_len();
        rounds * (u64::from(self.iterations) + input as u64)
    }
}

/// What derived bytes are for (RFC 7292 appendix B.3).
#[derive(Clone, Copy)]
pub(super) enum Use {
    Key = 1,
    Iv = 2,
    Mac = 3,
}

#[derive(Clone, Copy)]
pub(super) enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    /// By its own identifier.
    pub(super) fn of(kind: &ObjectIdentifier) -> Option<Self> {
        HASHES.iter().find(|(_, own, _)| kind.components() == own).map(|(hash, ..)| *hash)
    }

    /// By that of HMAC with it (RFC 8018 appendix B.1.2).
    pub(super) fn of_hmac(kind: &ObjectIdentifier) -> Option<Self> {
        HASHES.iter().find(|(.., hmac)| kind.components() == hmac).map(|(hash, ..)| *hash)
    }

    /// How many bytes it makes.
    pub(super) fn len(self) -> usize {
        self.digest().output_len()
    }

    pub(super) fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha384 => pbkdf2::PBKDF2_HMAC_SHA384,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }
}

/// Each with its identifier and that of HMAC with it.
const HASHES: [(Hash, &[u64], &[u64]); 4] = [
    (Hash::Sha1, SHA1, &[1, 2, 840, 113_549, 2, 7]),
    (Hash::Sha256, &[2, 16, 840, 1, 101, 3, 4, 2, 1], &[1, 2, 840, 113_549, 2, 9]),
    (Hash::Sha384, &[2, 16, 840, 1, 101, 3, 4, 2, 2], &[1, 2, 840, 113_549, 2, 10]),
    (Hash::Sha512, &[2, 16, 840, 1, 101, 3, 4, 2, 3], &[1, 2, 840, 113_549, 2, 11]),
];

pub(super) const SHA1: &[u64] = &[1, 3, 14, 3, 2, 26];

/// What OpenSSL takes too; a long password needs none.
const ITERATIONS: u32 = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_spent_to_its_last_block_and_no_further() {
        let password = Password::new("secret");
        let salted = Salted { salt: vec![1; 128], iterations: 100 };
        // 24 bytes are two rounds of SHA-1, each with two blocks of salt.
        let derive = |work: &mut Work| salted.derive(Hash::Sha1, Use::Key, &password, 24, work).map(|key| key.len());
        assert_eq!((derive(&mut Work::of(204)), derive(&mut Work::of(203))), (Ok(24), Err(Unread::TooMuchWork)));
        // And one of SHA-256.
        let derive = |work: &mut Work| salted.pbkdf2(Hash::Sha256, &password, 32, work).map(|key| key.len());
        let mut work = Work::of(250);
        assert_eq!((derive(&mut work), derive(&mut work), derive(&mut work)), (Ok(32), Ok(32), Err(Unread::TooMuchWork)));
    }
}
