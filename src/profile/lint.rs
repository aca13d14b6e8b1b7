//! What is wrong with a profile: what a device would refuse, and what it would take and do otherwise than meant.
//!
//! | file | what |
//! | --- | --- |
//! | `lint.rs` | the envelope and its payloads |
//! | `lint/relay.rs` | the payload with the relays: URLs, fields, keys |
//! | `lint/names.rs` | which names are matched and excluded |
//! | `lint/keys.rs` | the keys there are, and since when |

mod keys;
mod names;
mod relay;

use std::{collections::HashSet, fmt, io::Cursor};

use plist::{Dictionary, Value};

use super::payload::{INTERMEDIATE, PKCS12, RELAY, ROOT};
use crate::certs::{
    cms,
    facts::Facts,
    p12::{self, Work},
};

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// How bad it is.
    pub severity: Severity,
    /// The key it is about, like `Relays[0].HTTP3RelayURL`; empty for the profile as a whole.
    pub at: String,
    /// What is wrong, and what to do.
    pub says: String,
}

/// What a device makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It refuses the profile, or the part of it does nothing.
    Refused,
    /// It takes it, and does what few people mean; or an older system does not know it.
    Trap,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.is_empty() { write!(f, "the profile: {}", self.says) } else { write!(f, "`{}`: {}", self.at, self.says) }
    }
}

/// Everything that is wrong with a `.mobileconfig`, signed or not: what is refused first, then the traps.
pub fn lint(bytes: &[u8]) -> Vec<Complaint> {
    let mut complaints = Complaints::default();
    let unsigned = cms::content(bytes);
    match Value::from_reader(Cursor::new(unsigned.as_deref().unwrap_or(bytes))) {
        Ok(Value::Dictionary(top)) => envelope(&top, &mut complaints),
        Ok(_) => complaints.refused("", "it is a property list, but not a dictionary"),
        Err(_) => complaints.refused("", "it is no property list, nor a signed one"),
    }
    let mut all = complaints.0;
    all.sort_by_key(|complaint| complaint.severity);
    all
}

/// Complaints in the order in which they are found.
#[derive(Default)]
struct Complaints(Vec<Complaint>);

impl Complaints {
    fn refused(&mut self, at: &str, says: impl Into<String>) {
        self.0.push(Complaint { severity: Severity::Refused, at: at.into(), says: says.into() });
    }

    fn trap(&mut self, at: &str, says: impl Into<String>) {
        self.0.push(Complaint { severity: Severity::Trap, at: at.into(), says: says.into() });
    }
}

fn envelope(top: &Dictionary, complaints: &mut Complaints) {
    if top.get("PayloadType").and_then(Value::as_string) != Some("Configuration") {
        complaints.refused("PayloadType", "must be `Configuration` at the top of a profile");
    }
    required(top, "", complaints);
    let Some(payloads) = top.get("PayloadContent").and_then(Value::as_array) else {
        complaints.refused("PayloadContent", "must be an array of payloads");
        return;
    };
    let payloads: Vec<_> = payloads.iter().filter_map(Value::as_dictionary).collect();
    let mut uuids: HashSet<&str> = uuid(top).into_iter().collect();
    for (index, payload) in payloads.iter().enumerate() {
        let at = format!("PayloadContent[{index}].");
        required(payload, &at, complaints);
        if let Some(uuid) = uuid(payload)
            && !uuids.insert(uuid)
        {
            complaints.refused(&format!("{at}PayloadUUID"), "another payload has the same: each needs its own");
        }
    }
    let of = |kind: &'static str| payloads.iter().enumerate().filter(move |(_, payload)| self::kind(payload) == kind);
    for (index, payload) in of(ROOT).chain(of(INTERMEDIATE)) {
        certificate(payload, &format!("PayloadContent[{index}].PayloadContent"), complaints);
    }
    let mut work = Work::default();
    for (index, payload) in of(PKCS12) {
        identity(payload, &format!("PayloadContent[{index}]."), &mut work, complaints);
    }
    let relays: Vec<_> = of(RELAY).map(|(_, payload)| *payload).collect();
    if relays.is_empty() {
        complaints.refused("PayloadContent", format!("has no payload of type `{RELAY}`: nothing here is about a relay"));
    }
    for payload in relays {
        relay::payload(payload, &payloads, complaints);
    }
}

/// What every payload must have.
fn required(payload: &Dictionary, at: &str, complaints: &mut Complaints) {
    for key in ["PayloadType", "PayloadIdentifier", "PayloadUUID"] {
        if payload.get(key).and_then(Value::as_string).is_none_or(str::is_empty) {
            complaints.refused(&format!("{at}{key}"), "is missing, empty or no text");
        }
    }
    if payload.get("PayloadVersion").and_then(Value::as_unsigned_integer) != Some(1) {
        complaints.refused(&format!("{at}PayloadVersion"), "must be the number 1");
    }
}

fn certificate(payload: &Dictionary, at: &str, complaints: &mut Complaints) {
    let Some(der) = payload.get("PayloadContent").and_then(Value::as_data) else {
        complaints.refused(at, "must be data: the certificate");
        return;
    };
    match Facts::read(der) {
        Err(says) => complaints.refused(at, format!("is no certificate in DER: {says}")),
        Ok(facts) if !facts.authority => {
            complaints.trap(at, format!("{} is no CA: devices trust a relay by the CA that issued its certificate", facts.subject));
        }
        Ok(_) => {}
    }
}

fn identity(payload: &Dictionary, at: &str, work: &mut Work, complaints: &mut Complaints) {
    let key = format!("{at}PayloadContent");
    let Some(bytes) = payload.get("PayloadContent").and_then(Value::as_data) else {
        complaints.refused(&key, "must be data: the PKCS#12");
        return;
    };
    let password = payload.get("Password").and_then(Value::as_string);
    match (p12::opens(bytes, password.unwrap_or_default(), work), password) {
        (Err(error), _) => complaints.refused(&key, error.to_string()),
        (Ok(p12::Opens::No), Some(_)) => complaints.refused(&format!("{at}Password"), "does not open the PKCS#12 beside it"),
        (Ok(_), None) => complaints.trap(&format!("{at}Password"), "is missing: the device asks for it when the profile is installed"),
        (Ok(_), Some(_)) => {}
    }
}

fn kind(payload: &Dictionary) -> &str {
    payload.get("PayloadType").and_then(Value::as_string).unwrap_or_default()
}

fn uuid(payload: &Dictionary) -> Option<&str> {
    payload.get("PayloadUUID").and_then(Value::as_string)
}

#[cfg(test)]
mod tests;
