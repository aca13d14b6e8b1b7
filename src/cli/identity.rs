//! A client's certificate with its key, as a person gives it: PKCS#12, or PEM.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use rustls::{
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use zeroize::Zeroizing;

use super::report::{Exit, Failure};
use crate::{
    certs::{
        Identity,
        p12::{self, Unread, Work},
    },
    config::Certificate,
};

/// What is shown to a relay that asks for a client certificate.
#[derive(Args)]
pub(super) struct ClientIdentity {
    /// A client certificate: PKCS#12, or PEM with its key or `.key`
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// What opens that PKCS#12
    #[arg(long, value_name = "FILE", requires = "identity", alias = "password-file")]
    identity_password_file: Option<PathBuf>,
}

impl ClientIdentity {
    /// What it is.
    pub(super) fn given(&self) -> Result<Option<Arc<CertifiedKey>>, Failure> {
        let Some(file) = &self.identity else { return Ok(None) };
        let bytes = read(file)?;
        let password = self.identity_password_file.as_deref().map(read_password).transpose()?;
        if is_pem(&bytes) {
            if password.is_some() {
                return Err(Failure::says(Exit::Wrong, format!("cannot use a password with the identity {}: it is PEM", file.display())));
            }
            let files = Certificate { chain: file.clone(), key: key_file(file, &bytes) };
            return Ok(Some(Identity::load(&files)?.certified()));
        }
        // One that protects nothing needs none.
        match (unpacked(&bytes, password.as_deref().map_or("", String::as_str)), password) {
            (Ok(certified), _) => Ok(Some(certified)),
            (Err(Unusable::Unread(Unread::Password)), None) => {
                Err(Failure::says(Exit::Wrong, format!("cannot use the identity {} without its password", file.display()))
                    .hint("`--identity-password-file FILE` names a file with it"))
            }
            (Err(error), _) => {
                let failure = Failure::says(Exit::Wrong, format!("cannot use the identity {}: {error}", file.display()));
                Err(match error.hint() {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                })
            }
        }
    }
}

/// The file of an identity.
pub(super) fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let bytes = fs::read(file).map_err(|source| Failure::io(format!("cannot read the identity {}", file.display()), &source))?;
    Ok(Zeroizing::new(bytes))
}

/// The password in a file, without the end of its line.
pub(super) fn read_password(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = fs::read_to_string(file).map_err(|source| Failure::io(format!("cannot read the password {}", file.display()), &source))?;
    Ok(Zeroizing::new(Zeroizing::new(text).trim_end_matches(['\r', '\n']).to_owned()))
}

/// It is not PKCS#12.
pub(super) fn is_pem(bytes: &[u8]) -> bool {
    bytes.starts_with(b"-----") || contains(bytes, b"\n-----BEGIN")
}

/// Where the key of a PEM certificate is: in the same file, or beside it, as `cert client` writes it.
pub(super) fn key_file(file: &Path, text: &[u8]) -> PathBuf {
    if contains(text, b"PRIVATE KEY-----") { file.into() } else { file.with_extension("key") }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// The identity in a PKCS#12.
pub(super) fn unpacked(pkcs12: &[u8], password: &str) -> Result<Arc<CertifiedKey>, Unusable> {
    let held = p12::read(pkcs12, password, &mut Work::default())?;
    let key = PrivateKeyDer::Pkcs8(held.key.to_vec().into());
    let chain = held.chain.into_iter().map(CertificateDer::from).collect();
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &default_provider())?))
}

/// Why a PKCS#12 is no identity.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error(transparent)]
    Unread(#[from] Unread),
    #[error("its key cannot be used, or is another certificate's: {0}")]
    Key(#[from] rustls::Error),
}

impl Unusable {
    /// What to do about it.
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unread(Unread::NoPkcs12(_)) => Some("it must be PKCS#12 or PEM; `masque-relay cert client NAME` makes the latter"),
            Self::Unread(Unread::Protected(_) | Unread::TooMuchWork) => {
                Some("pack it anew: `openssl pkcs12 -legacy -in OLD -nodes -out PEM`, then `openssl pkcs12 -export -in PEM -out NEW`")
            }
            Self::Unread(Unread::NoCertificate | Unread::NoKey) => Some("it must hold both the certificate and its key"),
            Self::Unread(Unread::Password | Unread::TooLong) | Self::Key(_) => None,
        }
    }
}
