//! What a relay's certificates are worth: each rule by itself, so that one fault does not hide another.

use std::{net::IpAddr, time::SystemTime};

use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use crate::certs::facts::Facts;

/// A chain as it was shown.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    /// The leaf.
    pub(super) leaf: Facts,
    /// The others, in the order they came.
    pub(super) rest: Vec<Facts>,
    /// Whether it leads to a trusted authority, by signatures alone; `Err` says what is in the way.
    pub(super) leads: Result<(), String>,
    /// The leaf's public key (SubjectPublicKeyInfo, DER).
    pub(super) key: Vec<u8>,
    /// Whether its names have that of the URL.
    pub(super) named: bool,
}

impl Chain {
    /// Reads certificates in DER, the leaf first. `Err`: there is none, or the leaf does not parse.
    pub(super) fn read(certificates: &[Vec<u8>], roots: &[CertificateDer<'static>], host: &str, now: SystemTime) -> Result<Self, String> {
        let (leaf, rest) = certificates.split_first().ok_or("the relay showed no certificate")?;
        let facts = Facts::read(leaf)?;
        Ok(Self {
            key: public_key(leaf),
            leads: leads(leaf, rest, roots, now.clamp(facts.not_before, facts.not_after.max(facts.not_before))),
            named: named(&facts.names, host),
            rest: rest.iter().filter_map(|der| Facts::read(der).ok()).collect(),
            leaf: facts,
        })
    }

    /// Whether an Apple client would send a credential over this connection.
    pub(super) fn deserves(&self, public_keys: &[Vec<u8>], now: SystemTime) -> bool {
        if !public_keys.is_empty() {
            return public_keys.contains(&self.key);
        }
        self.leads.is_ok() && self.named && !self.leaf.self_issued && self.leaf.not_before <= now && now <= self.leaf.not_after
    }

    /// The issuer that is missing: of the last certificate that came.
    pub(super) fn wanted(&self) -> &str {
        &self.rest.last().unwrap_or(&self.leaf).issuer
    }
}

/// By signatures and constraints of the authorities, at a time when the leaf is valid, whatever the leaf may be used for.
fn leads(leaf: &[u8], rest: &[Vec<u8>], roots: &[CertificateDer<'static>], at: SystemTime) -> Result<(), String> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    let leaf = CertificateDer::from(leaf);
    let rest: Vec<_> = rest.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let end = EndEntityCert::try_from(&leaf).map_err(|error| error.to_string())?;
    let at = UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    let path = end.verify_for_usage(algorithms.all, &store.roots, &rest, at, AnyUsage, None, None);
    path.map(drop).map_err(|error| match error {
        webpki::Error::UnknownIssuer => "no trusted authority issued it".into(),
        webpki::Error::CaUsedAsEndEntity => "it is a CA's own certificate".into(),
        error => error.to_string(),
    })
}

fn public_key(der: &[u8]) -> Vec<u8> {
    X509Certificate::from_der(der).map(|(_, certificate)| certificate.public_key().raw.to_vec()).unwrap_or_default()
}

/// Usages are a rule of their own.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, mut usages: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        usages.try_for_each(|usage| usage.map(drop))
    }
}

/// RFC 6125 as clients do it: a name, a wildcard for one label, or the very address.
fn named(names: &[String], host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if let Ok(ip) = host.parse::<IpAddr>() {
        return names.iter().any(|name| name.parse() == Ok(ip));
    }
    let above = host.split_once('.').map(|(_, above)| above);
    names.iter().any(|name| *name == host || name.strip_prefix("*.").is_some_and(|name| Some(name) == above))
}

/// Whether a host can stand in a TLS handshake.
pub(super) fn is_name(host: &str) -> bool {
    ServerName::try_from(host.to_owned()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_clients_do_it() {
        let names = ["a.example", "*.b.example", "192.0.2.1", "2001:db8::1"].map(str::to_owned);
        for (host, want) in [
            ("A.example", true),
            ("a.example.", true),
            ("x.b.example", true),
            ("b.example", false),
            ("x.y.b.example", false),
            ("192.0.2.1", true),
            ("2001:db8:0::1", true),
            ("192.0.2.2", false),
        ] {
            assert_eq!(named(&names, host), want, "{host}");
        }
    }
}
