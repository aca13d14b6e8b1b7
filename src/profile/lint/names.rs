//! Which names are matched and excluded: an exclusion wins, and without a match everything is matched.

use plist::{Dictionary, Value};

use super::Complaints;

/// The four lists of a payload.
pub(super) struct Lists<'a> {
    domains: Vec<&'a str>,
    names: Vec<&'a str>,
    excluded_domains: Vec<&'a str>,
    excluded_names: Vec<&'a str>,
}

impl<'a> Lists<'a> {
    /// Reads them, and complains of what is no name.
    pub(super) fn read(payload: &'a Dictionary, complaints: &mut Complaints) -> Self {
        let mut list = |key: &str| {
            let Some(value) = payload.get(key) else { return Vec::new() };
            let Some(names) = value.as_array().map(|names| names.iter().map(Value::as_string)) else {
                complaints.refused(key, "must be an array of names");
                return Vec::new();
            };
            let names: Option<Vec<_>> = names.collect();
            let Some(names) = names else {
                complaints.refused(key, "must hold nothing but names");
                return Vec::new();
            };
            for name in &names {
                if let Some(says) = misspelt(name) {
                    complaints.refused(key, format!("`{}` matches nothing: {says}", name.escape_debug()));
                }
            }
            names
        };
        Self {
            domains: list("MatchDomains"),
            names: list("MatchFQDNs"),
            excluded_domains: list("ExcludedDomains"),
            excluded_names: list("ExcludedFQDNs"),
        }
    }

    /// Complains of lists that do not do what they look like.
    pub(super) fn check(&self, complaints: &mut Complaints) {
        if self.match_all() {
            if self.excluded_domains.is_empty() && self.excluded_names.is_empty() {
                complaints.trap("MatchDomains", "is empty, and so is `MatchFQDNs`: everything the device does goes through the relay");
            } else {
                complaints.trap("MatchDomains", "is empty, and so is `MatchFQDNs`: everything but the exclusions goes through the relay");
            }
            return;
        }
        for excluded in &self.excluded_names {
            if !self.matched(excluded) {
                complaints.refused("ExcludedFQDNs", format!("`{excluded}` is under no match, so that excluding it has no effect"));
            }
        }
        for excluded in &self.excluded_domains {
            let cuts = self.domains.iter().chain(&self.names).any(|matched| covers(excluded, matched)) || self.matched(excluded);
            if !cuts {
                complaints.trap("ExcludedDomains", format!("`{excluded}` is under no match, so that excluding it has no effect"));
            }
        }
        for (key, list) in [("MatchDomains", &self.domains), ("MatchFQDNs", &self.names)] {
            for matched in list {
                // What lies below a domain may still be matched when its own name is excluded.
                let gone = self.excluded_domains.iter().any(|excluded| covers(excluded, matched))
                    || key == "MatchFQDNs" && self.excluded_names.iter().any(|excluded| same(excluded, matched));
                if gone {
                    complaints.trap(key, format!("`{matched}` is excluded again: exclusions win"));
                }
            }
        }
    }

    /// Complains if a relay's own host is among what goes through the relay.
    pub(super) fn check_host(&self, host: &str, at: &str, complaints: &mut Complaints) {
        if !self.match_all() && self.matched(host) && !self.excluded(host) {
            complaints
                .trap(at, format!("`{host}` is itself among the matches: the way to the relay would lead through the relay; exclude it"));
        }
    }

    fn match_all(&self) -> bool {
        self.domains.is_empty() && self.names.is_empty()
    }

    fn matched(&self, name: &str) -> bool {
        self.domains.iter().any(|domain| covers(domain, name)) || self.names.iter().any(|one| same(one, name))
    }

    fn excluded(&self, name: &str) -> bool {
        self.excluded_domains.iter().any(|domain| covers(domain, name)) || self.excluded_names.iter().any(|one| same(one, name))
    }
}

/// Why this is no name a connection could have.
fn misspelt(name: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_alphanumeric() || c == '-' || c == '_' || c == '.';
    match name {
        "" => Some("it is empty"),
        _ if name.contains('*') => Some("write `example.com`, without `*.`, for all below it"),
        _ if name.contains("://") || name.contains('/') => Some("write a name, not a URL"),
        _ if name.starts_with('.') => Some("write it without the dot in front"),
        _ if name.contains(':') => Some("write a name, without a port"),
        _ if !name.chars().all(plain) || name.contains("..") => Some("it is no name"),
        _ => None,
    }
}

/// Whether `name` is `domain` or below it.
fn covers(domain: &str, name: &str) -> bool {
    let (domain, name) = (plain(domain), plain(name));
    name == domain || name.strip_suffix(&domain).is_some_and(|front| front.ends_with('.'))
}

fn same(one: &str, other: &str) -> bool {
    plain(one) == plain(other)
}

/// Lists differ neither by case nor by the root's dot.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_lowercase()
}
