//! A relay's URL, `https://HOST[:PORT][/TEMPLATE]`: as a person types it, and as a profile holds it.

use std::net::IpAddr;

use super::template::{Template, TemplateError};

/// A relay's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// A name or an address, without brackets.
    pub host: String,
    /// 443 where the URL has none.
    pub port: u16,
    /// `None` where the URL has no path.
    pub template: Option<Template>,
}

/// Why a text is no relay's URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// What is wrong before the path.
    #[error("{0}")]
    Address(&'static str),
    /// What is wrong with the path.
    #[error(transparent)]
    Template(TemplateError),
}

impl Url {
    /// Reads it.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let wrong = UrlError::Address;
        let rest = text.strip_prefix("https://").ok_or(wrong("it does not start with https://"))?;
        let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
        if authority.contains('@') {
            return Err(wrong("credentials do not belong into it"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(wrong("a bracket is not closed"))?;
                if host.parse::<IpAddr>().is_err() {
                    return Err(wrong("what stands in brackets is no address"));
                }
                (host, port.strip_prefix(':').or(port.is_empty().then_some("443")).ok_or(wrong("text follows the bracket"))?)
            }
            None => authority.split_once(':').unwrap_or((authority, "443")),
        };
        if host.is_empty() {
            return Err(wrong("it names no host"));
        }
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(wrong("its port is not a number from 1 to 65535"))?;
        let template = match path {
            "" | "/" => None,
            path => Some(Template::parse(path).map_err(UrlError::Template)?),
        };
        Ok(Self { host: host.into(), port, template })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_what_a_person_typed() {
        for (text, host, port) in [
            ("https://relay.example", "relay.example", 443),
            ("https://relay.example:4433/", "relay.example", 4433),
            ("https://[2001:db8::1]", "2001:db8::1", 443),
            ("https://[::1]:65535", "::1", 65535),
            ("https://127.0.0.1:1", "127.0.0.1", 1),
        ] {
            assert_eq!(Url::parse(text).unwrap(), Url { host: host.into(), port, template: None }, "{text}");
        }
    }

    #[test]
    fn a_wrong_url_says_what_is_wrong() {
        for (text, says) in [
            ("http://relay.example", "https"),
            ("relay.example:443", "https"),
            ("https://", "no host"),
            ("https://:443", "no host"),
            ("https://user:secret@relay.example", "credentials"),
            ("https://relay.example:0", "port"),
            ("https://relay.example:65536", "port"),
            ("https://[::1", "bracket"),
            ("https://[::1]443", "bracket"),
            ("https://[relay]:443", "brackets"),
            ("https://2001:db8::1", "port"),
        ] {
            let error = Url::parse(text).unwrap_err();
            assert!(matches!(error, UrlError::Address(_)) && error.to_string().contains(says), "{text}: {error}");
        }
    }
}
