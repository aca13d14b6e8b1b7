//! What makes an Apple device use a relay: a configuration profile, declarations, or Swift; and what is wrong with a profile (`lint`).
//!
//! Promises, each with a test:
//!
//! 1. *The same relay has the same UUIDs*, run after run: a device replaces the profile it has instead of keeping two.
//! 2. *What is written passes `lint`*, or is not written.
//! 3. *Who holds a profile holds its secrets*: [`Profile::secrets`] names them.

pub mod declaration;
pub mod lint;
pub mod payload;
pub mod read;
pub mod swift;
pub mod uuid;

use std::fmt;

use zeroize::Zeroizing;

use crate::proto::url::Url;

/// What a device is told. Whether it makes sense is [`lint::lint`]'s to say.
#[derive(Clone)]
pub struct Profile {
    /// What the device shows.
    pub name: String,
    /// Whose profile it is.
    pub organization: Option<String>,
    /// One or two, the one the device connects to first.
    pub relays: Vec<Relay>,
    /// Certificates (DER) of authorities the device is to trust.
    pub authorities: Vec<Vec<u8>>,
    /// What the device shows the first relay.
    pub identity: Option<Identity>,
    /// Which connections go through the relay.
    pub matches: Matches,
    /// Whether the person at the device can switch the relay off; `None`: as the system has it, which is yes.
    pub switchable: Option<bool>,
    /// Whether names are resolved without the relay when it fails; `None`: as the system has it, which is no.
    pub dns_failover: Option<bool>,
}

/// One relay.
#[derive(Clone, Default)]
pub struct Relay {
    /// URL or template, for HTTP/3.
    pub h3: Option<String>,
    /// URL or template, for HTTP/2.
    pub h2: Option<String>,
    /// Fields of every request, in order.
    pub headers: Vec<(String, String)>,
    /// Public keys (SubjectPublicKeyInfo, DER), one of which the relay must have, instead of a certificate the device trusts.
    pub public_keys: Vec<Vec<u8>>,
}

/// A client certificate with its key.
#[derive(Clone)]
pub struct Identity {
    /// PKCS#12.
    pub pkcs12: Vec<u8>,
    /// What opens it.
    pub password: Zeroizing<String>,
}

/// Which connections go through the relay: all without a match. An exclusion wins over a match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matches {
    /// These names and all below them.
    pub domains: Vec<String>,
    /// These names alone.
    pub names: Vec<String>,
    /// None of these names nor of those below them.
    pub excluded_domains: Vec<String>,
    /// None of these names.
    pub excluded_names: Vec<String>,
}

impl Profile {
    /// For one relay, all connections, nothing else said.
    pub fn new(name: &str, relay: Relay) -> Self {
        Self {
            name: name.into(),
            organization: None,
            relays: vec![relay],
            authorities: Vec::new(),
            identity: None,
            matches: Matches::default(),
            switchable: None,
            dns_failover: None,
        }
    }

    /// What in it must stay among the people it is for, in words.
    pub fn secrets(&self) -> Vec<&'static str> {
        let headers = self.relays.iter().any(|relay| !relay.headers.is_empty());
        let identity = self.identity.is_some();
        [(headers, "the credential in its header fields"), (identity, "the client's private key with its password")]
            .into_iter()
            .filter_map(|(there, secret)| there.then_some(secret))
            .collect()
    }

    /// The name of this configuration among all there are: `masque-relay.relay.example`. A device has one profile of a name.
    pub fn identifier(&self) -> String {
        let url = self.relays.first().and_then(|relay| relay.h3.as_ref().or(relay.h2.as_ref()));
        let host = url.and_then(|url| Url::parse(url).ok()).map_or_else(|| "relay".into(), |url| url.host);
        format!("masque-relay.{}", host.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '-', "-"))
    }

    /// The identifier of a part of it, and that part's UUID.
    fn part(&self, part: &str) -> (String, String) {
        let identifier = format!("{}.{part}", self.identifier());
        let uuid = uuid::of(&identifier);
        (identifier, uuid)
    }
}

/// Secrets stay out of it.
impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile").field("name", &self.name).field("identifier", &self.identifier()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
