//! What a certificate says, and what Apple's clients would say about it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    oid_registry::{OID_PKCS1_SHA1WITHRSA, Oid},
    prelude::FromDer,
    public_key::PublicKey,
    time::ASN1Time,
};

/// One certificate, as far as a relay and its operator care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The subject's distinguished name.
    pub subject: String,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// DNS names and addresses of the subject alternative name, in order.
    pub names: Vec<String>,
    /// First second of validity.
    pub not_before: SystemTime,
    /// Last second of validity.
    pub not_after: SystemTime,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Kind and size of the public key.
    pub key: Key,
    /// Signed with SHA-1.
    pub sha1: bool,
    /// May sign other certificates.
    pub authority: bool,
    /// What the extended key usage allows; both without one.
    pub usage: Usage,
    /// Subject and issuer are the same.
    pub self_issued: bool,
    /// SHA-256 of the DER, hexadecimal.
    pub sha256: String,
}

/// A public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// An elliptic curve of this many bits.
    Curve(usize),
    /// RSA with a modulus of this many bits.
    Rsa(usize),
    /// Ed25519 and whatever else there is.
    Other,
}

/// What a certificate may be shown for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// By a server (EKU serverAuth).
    pub server: bool,
    /// By a client (EKU clientAuth).
    pub client: bool,
    /// There is an extended key usage that says so; without one both are allowed.
    pub stated: bool,
}

impl Usage {
    /// Whether Apple's clients take it from a server: they want it said.
    pub fn serves_apple(self) -> bool {
        self.server && self.stated
    }
}

impl Facts {
    /// Reads DER. `Err` says what does not parse.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let (rest, cert) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err(format!("{} bytes follow its end", rest.len()));
        }
        let names = match cert.subject_alternative_name().map_err(|error| error.to_string())? {
            Some(san) => san.value.general_names.iter().filter_map(name).collect(),
            None => Vec::new(),
        };
        let usage = match cert.extended_key_usage().map_err(|error| error.to_string())? {
            Some(eku) => {
                Usage { server: eku.value.server_auth || eku.value.any, client: eku.value.client_auth || eku.value.any, stated: true }
            }
            None => Usage { server: true, client: true, stated: false },
        };
        let algorithm = &cert.signature_algorithm.algorithm;
        Ok(Self {
            subject: cert.subject().to_string(),
            issuer: cert.issuer().to_string(),
            names,
            not_before: time(cert.validity().not_before)?,
            not_after: time(cert.validity().not_after)?,
            serial: cert.raw_serial_as_string(),
            key: match cert.public_key().parsed() {
                Ok(PublicKey::EC(point)) => Key::Curve(point.key_size()),
                Ok(PublicKey::RSA(key)) => Key::Rsa(key.key_size()),
                Ok(_) | Err(_) => Key::Other,
            },
            sha1: *algorithm == OID_PKCS1_SHA1WITHRSA || *algorithm == ecdsa_with_sha1(),
            authority: cert.is_ca(),
            usage,
            self_issued: cert.subject() == cert.issuer(),
            sha256: hex(digest::digest(&digest::SHA256, der).as_ref()),
        })
    }

    /// Whether its time is over within `span`.
    pub fn expires_within(&self, span: Duration, now: SystemTime) -> bool {
        self.not_after < now + span
    }

    /// Why an Apple client would not trust this as a relay's leaf, or soon will not; each with what to do.
    pub fn complaints(&self, now: SystemTime) -> Vec<String> {
        let lasts = self.not_after.duration_since(self.not_before).unwrap_or_default();
        let mut complaints = Vec::new();
        let mut say = |wrong: bool, says: String| complaints.extend(wrong.then_some(says));
        say(self.not_after < now, format!("it expired on {}: renew it", utc(self.not_after)));
        say(now < self.not_before, format!("it is valid only from {}: check the clock", utc(self.not_before)));
        say(now <= self.not_after && self.expires_within(SOON, now), format!("it expires on {}: renew it soon", utc(self.not_after)));
        say(self.names.is_empty(), "it has no subject alternative name, and Apple's clients ignore the common name".into());
        say(!self.usage.serves_apple(), "its extended key usage lacks serverAuth: Apple's clients refuse it".into());
        say(lasts > LONGEST, format!("it is valid for {} days: Apple's clients take 825 at most", lasts.as_secs() / DAY.as_secs()));
        say(self.sha1, "it is signed with SHA-1: Apple's clients refuse it".into());
        say(matches!(self.key, Key::Rsa(bits) if bits < 2048), "its RSA key is shorter than 2048 bits: Apple's clients refuse it".into());
        say(
            self.self_issued,
            "it is self-signed: Apple's clients want a leaf issued by an installed CA (`masque-relay cert ca`, then `cert server`)".into(),
        );
        complaints
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Curve(bits) => write!(f, "P-{bits}"),
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::Other => f.write_str("other"),
        }
    }
}

/// A time as people read it: `2027-01-15 08:00 UTC`.
pub fn utc(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match i64::try_from(seconds).ok().and_then(|seconds| ASN1Time::from_timestamp(seconds).ok()) {
        Some(time) => {
            let t = time.to_datetime();
            format!("{:04}-{:02}-{:02} {:02}:{:02} UTC", t.year(), u8::from(t.month()), t.day(), t.hour(), t.minute())
        }
        None => format!("{seconds} s after 1970"),
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The kinds of name a relay's client checks; others (mail, URI) do not count.
fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).into())
}

/// A time before 1970 counts as 1970.
fn time(time: ASN1Time) -> Result<SystemTime, String> {
    let since = Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0));
    UNIX_EPOCH.checked_add(since).ok_or_else(|| "its dates are out of range".into())
}

/// ecdsa-with-SHA1 (RFC 3279 §2.2.3), which the registry lacks.
fn ecdsa_with_sha1() -> Oid<'static> {
    Oid::from(&[1, 2, 840, 10045, 4, 1]).expect("a well-formed object identifier")
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Two weeks are enough to renew a certificate by hand.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// What Apple's clients accept from a private CA.
pub const LONGEST: Duration = Duration::from_secs(825 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::issue::Authority;
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    fn facts(pem: &str) -> Facts {
        Facts::read(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap()
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    #[test]
    fn a_leaf_of_ours_gives_apple_nothing_to_complain_about() {
        let leaf = Authority::new("CA", now()).unwrap().server(&["a.example".into()], 397 * DAY, now()).unwrap();
        let facts = facts(&leaf.chain);
        assert_eq!(facts.complaints(now()), Vec::<String>::new());
        assert_eq!(facts.key, Key::Curve(256));
        assert_eq!(facts.usage, Usage { server: true, client: false, stated: true });
    }

    type Spoil = fn(&mut Facts);

    #[test]
    fn every_complaint_is_raised_by_its_cause() {
        let leaf = Authority::new("CA", now()).unwrap().server(&["a.example".into()], 397 * DAY, now()).unwrap();
        let good = facts(&leaf.chain);
        let cases: [(&str, Spoil); 9] = [
            ("expired", |f| f.not_after = now() - DAY),
            ("valid only from", |f| f.not_before = now() + DAY),
            ("renew it soon", |f| f.not_after = now() + DAY),
            ("no subject alternative name", |f| f.names.clear()),
            ("serverAuth", |f| f.usage.server = false),
            ("825", |f| f.not_after = f.not_before + LONGEST + DAY),
            ("SHA-1", |f| f.sha1 = true),
            ("2048", |f| f.key = Key::Rsa(1024)),
            ("self-signed", |f| f.self_issued = true),
        ];
        for (word, spoil) in cases {
            let mut facts = good.clone();
            spoil(&mut facts);
            let complaints = facts.complaints(now());
            assert_eq!(complaints.len(), 1, "{complaints:?}");
            assert!(complaints[0].contains(word), "{complaints:?}");
        }
    }

    #[test]
    fn bytes_after_the_certificate_are_refused() {
        let leaf = Authority::new("CA", now()).unwrap().server(&["a.example".into()], DAY, now()).unwrap();
        let mut der = CertificateDer::from_pem_slice(leaf.chain.as_bytes()).unwrap().to_vec();
        der.push(0);
        assert!(Facts::read(&der).unwrap_err().contains("1 bytes follow"));
        assert!(Facts::read(&[]).is_err());
    }

    #[test]
    fn times_read_like_a_calendar() {
        assert_eq!(utc(UNIX_EPOCH), "1970-01-01 00:00 UTC");
        assert_eq!(utc(now()), "2027-01-15 08:00 UTC");
    }
}
