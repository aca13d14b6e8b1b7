//! The same configuration as Swift: `NERelayManager` for the system, `ProxyConfiguration` for one app. Nothing here compiles it.

use std::fmt::Write;

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{Profile, Relay};

impl Profile {
    /// Both snippets, ready to paste and to be compiled by somebody who has Xcode.
    pub fn swift(&self) -> String {
        let mut out = String::from(HEAD);
        self.manager(&mut out);
        out += BETWEEN;
        self.hops(&mut out);
        out
    }

    fn manager(&self, out: &mut String) {
        let mut line = |text: String| writeln!(out, "{text}").expect("a String takes everything");
        for (index, relay) in self.relays.iter().enumerate() {
            let name = variable(index);
            line(format!("let {name} = NERelay()"));
            for (property, url) in [("http3RelayURL", &relay.h3), ("http2RelayURL", &relay.h2)] {
                if let Some(url) = url {
                    line(format!("{name}.{property} = URL(string: {})", literal(url)));
                }
            }
            if !relay.headers.is_empty() {
                line(format!("{name}.additionalHTTPHeaderFields = {}", headers(relay)));
            }
            if !relay.public_keys.is_empty() {
                let keys: Vec<_> = relay.public_keys.iter().map(|key| data(key)).collect();
                line(format!("{name}.rawPublicKeys = [{}]", keys.join(", ")));
            }
            if let (0, Some(identity)) = (index, &self.identity) {
                line(format!("{name}.identityData = {}", data(&identity.pkcs12)));
                line(format!("{name}.identityDataPassword = {}", literal(&identity.password)));
            }
        }
        if self.relays.iter().any(|relay| relay.h3.iter().chain(&relay.h2).any(|url| url.contains('{'))) {
            line("// A template: check that the URL keeps its braces, which URL(string:) may percent-encode.".into());
        }
        let names: Vec<_> = (0..self.relays.len()).map(variable).collect();
        line("\nlet manager = NERelayManager.shared()\ntry await manager.loadFromPreferences()".into());
        line(format!("manager.relays = [{}]", names.join(", ")));
        let matches = &self.matches;
        for (property, list, since) in [
            ("matchDomains", &matches.domains, ""),
            ("excludedDomains", &matches.excluded_domains, ""),
            ("matchFQDNs", &matches.names, "  // iOS 18.4, macOS 15.4"),
            ("excludedFQDNs", &matches.excluded_names, "  // iOS 18.4, macOS 15.4"),
        ] {
            if !list.is_empty() {
                line(format!("manager.{property} = {}{since}", array(list)));
            }
        }
        for (property, value) in [("isUIToggleEnabled", self.switchable), ("isDNSFailoverAllowed", self.dns_failover)] {
            if let Some(value) = value {
                line(format!("manager.{property} = {value}  // iOS 26, macOS 26"));
            }
        }
        line("manager.isEnabled = true\ntry await manager.saveToPreferences()".into());
    }

    fn hops(&self, out: &mut String) {
        let mut line = |text: String| writeln!(out, "{text}").expect("a String takes everything");
        for (index, relay) in self.relays.iter().enumerate() {
            let mut arguments = Vec::new();
            for (label, url) in [("http3RelayEndpoint", &relay.h3), ("http2RelayEndpoint", &relay.h2)] {
                if let Some(url) = url {
                    arguments.push(format!("    {label}: .url(URL(string: {})!)", literal(url)));
                }
            }
            if !relay.headers.is_empty() {
                arguments.push(format!("    additionalHTTPHeaderFields: {}", headers(relay)));
            }
            line(format!("let {} = ProxyConfiguration.RelayHop(\n{}\n)", hop(index), arguments.join(",\n")));
        }
        let names: Vec<_> = (0..self.relays.len()).map(hop).collect();
        line(format!("var proxy = ProxyConfiguration(relayHops: [{}])", names.join(", ")));
        let matches = &self.matches;
        for (property, list) in [("matchDomains", &matches.domains), ("excludedDomains", &matches.excluded_domains)] {
            if !list.is_empty() {
                line(format!("proxy.{property} = {}", array(list)));
            }
        }
        if !matches.names.is_empty() || !matches.excluded_names.is_empty() {
            line("// Names without those below them (matchFQDNs, excludedFQDNs) are not offered here.".into());
        }
        if self.identity.is_some() {
            line("// The client identity goes into `tlsOptions:` of the hop, by sec_protocol_options_set_local_identity.".into());
        }
        line("\nlet configuration = URLSessionConfiguration.default\nconfiguration.proxyConfigurations = [proxy]".into());
    }
}

fn variable(index: usize) -> String {
    if index == 0 { "relay".into() } else { "secondRelay".into() }
}

fn hop(index: usize) -> String {
    if index == 0 { "hop".into() } else { "secondHop".into() }
}

fn headers(relay: &Relay) -> String {
    let fields: Vec<_> = relay.headers.iter().map(|(name, value)| format!("{}: {}", literal(name), literal(value))).collect();
    format!("[{}]", fields.join(", "))
}

fn array(list: &[String]) -> String {
    let each: Vec<_> = list.iter().map(|text| literal(text)).collect();
    format!("[{}]", each.join(", "))
}

fn data(bytes: &[u8]) -> String {
    format!("Data(base64Encoded: \"{}\")!", BASE64_STANDARD.encode(bytes))
}

/// A string literal; a backslash, which begins escapes and interpolations, is escaped itself.
fn literal(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => write!(out, "\\u{{{:x}}}", u32::from(c)).expect("a String takes everything"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

const HEAD: &str = "\
// Not compiled by masque-relay: it was written beside Apple's documentation, on a machine without Xcode.
// The device must trust the relay's certificate: install its CA, or set rawPublicKeys.

// 1. For the whole system (iOS 17, macOS 14). Needs the entitlement com.apple.developer.networking.networkextension with `relay`.
import NetworkExtension

";

const BETWEEN: &str = "
// 2. For the connections of one app (iOS 17, macOS 14). Needs no entitlement.
import Foundation
import Network

";

#[cfg(test)]
mod tests {
    use super::literal;

    #[test]
    fn no_text_leaves_its_literal() {
        for (text, want) in [("plain", r#""plain""#), (r#"a"b\(c)"#, r#""a\"b\\(c)""#), ("a\nb", r#""a\u{a}b""#)] {
            assert_eq!(literal(text), want);
        }
    }
}
