//! The keys there are, and the systems that know them.

use plist::Dictionary;

use super::Complaints;

/// Complains of keys nobody knows, and names the systems that know those only newer ones do.
pub(super) fn check(dictionary: &Dictionary, at: &str, known: &[(&str, Option<&str>)], complaints: &mut Complaints) {
    for key in dictionary.keys() {
        // What every payload may have.
        if at.is_empty() && key.starts_with("Payload") {
            continue;
        }
        let full = format!("{at}{key}");
        match known.iter().find(|(name, _)| name == key) {
            Some((_, Some(systems))) => complaints.trap(&full, format!("needs {systems}; what is older ignores it")),
            Some((_, None)) => {}
            None => {
                let near = known.iter().map(|(name, _)| (strsim::damerau_levenshtein(name, key), name)).min();
                let hint = match near {
                    Some((distance, name)) if distance <= 3 => format!(": is it `{name}`?"),
                    _ => String::new(),
                };
                complaints.trap(&full, format!("is no key of a relay payload, and is ignored{hint}"));
            }
        }
    }
}

/// Of the payload.
pub(super) const PAYLOAD: &[(&str, Option<&str>)] = &[
    ("Relays", None),
    ("MatchDomains", None),
    ("ExcludedDomains", None),
    ("MatchFQDNs", Some(SPRING_2025)),
    ("ExcludedFQDNs", Some(SPRING_2025)),
    ("RelayUUID", None),
    ("UIToggleEnabled", Some(AUTUMN_2025)),
    ("AllowDNSFailover", Some(AUTUMN_2025)),
];

/// Of one relay.
pub(super) const RELAY: &[(&str, Option<&str>)] = &[
    ("HTTP3RelayURL", None),
    ("HTTP2RelayURL", None),
    ("AdditionalHTTPHeaderFields", None),
    ("PayloadCertificateUUID", None),
    ("RawPublicKeys", None),
];

const SPRING_2025: &str = "iOS 18.4, macOS 15.4, tvOS 18.4 or visionOS 2.4";
const AUTUMN_2025: &str = "iOS, macOS, tvOS or visionOS 26";
