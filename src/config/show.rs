//! Values as meant, in the form `file` reads.

use std::{fmt::Display, path::Path, time::Duration};

use super::{
    Certificate, Rule, Token,
    values::{DENIALS, PROTOCOLS, show_duration},
};

/// A text with the quotes and escapes of TOML.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

pub(super) fn quoted_list<T: Display>(list: &[T]) -> String {
    let all: Vec<_> = list.iter().map(|one| quoted(&one.to_string())).collect();
    format!("[{}]", all.join(", "))
}

pub(super) fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

pub(super) fn durations(span: Duration) -> String {
    quoted(&show_duration(span))
}

/// The word of a choice.
pub(super) fn word<T: PartialEq>(words: &[(&str, T)], meant: T) -> String {
    words.iter().find(|(_, value)| *value == meant).map_or_else(String::new, |(word, _)| quoted(word))
}

pub(super) fn certificates(certificates: &[Certificate]) -> String {
    lines(certificates.iter().map(|one| format!("{{ chain = {}, key = {} }}", path(&one.chain), path(&one.key))))
}

/// Users only: not even the hash of a token is printed.
pub(super) fn tokens(tokens: &[Token]) -> String {
    lines(tokens.iter().map(|token| format!("{{ user = {}, sha256 = \"[secret]\" }}", quoted(&token.user))))
}

pub(super) fn rules(rules: &[Rule]) -> String {
    lines(rules.iter().map(rule))
}

fn rule(rule: &Rule) -> String {
    let mut what: Vec<_> = rule.names.iter().map(|name| quoted(name)).collect();
    what.extend(rule.networks.iter().map(|network| quoted(&network.to_string())));
    if what.is_empty() {
        what.push(quoted("*"));
    }
    let mut parts = vec![format!("{} = [{}]", if rule.allow { "allow" } else { "deny" }, what.join(", "))];
    if !rule.ports.is_empty() {
        let range = |(first, last): &(u16, u16)| if first == last { format!("\"{first}\"") } else { format!("\"{first}-{last}\"") };
        parts.push(format!("ports = [{}]", rule.ports.iter().map(range).collect::<Vec<_>>().join(", ")));
    }
    if !rule.protocols.is_empty() {
        let protocols: Vec<_> = rule.protocols.iter().map(|protocol| word(&PROTOCOLS, *protocol)).collect();
        parts.push(format!("protocols = [{}]", protocols.join(", ")));
    }
    if let Some(denial) = rule.denial {
        parts.push(format!("denial = {}", word(&DENIALS, denial)));
    }
    format!("{{ {} }}", parts.join(", "))
}

/// A list with a line for each element.
fn lines(elements: impl Iterator<Item = String>) -> String {
    let elements: String = elements.map(|element| format!("  {element},\n")).collect();
    if elements.is_empty() { "[]".into() } else { format!("[\n{elements}]") }
}
