//! The tables inside lists: certificates, tokens and rules.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::de::DeValue;

use super::{
    Certificate, Rule, Token,
    values::{DENIALS, PROTOCOLS, Read, Value, Wrong, choice, list, number, parsed, path, table, wrong},
};

/// `{ chain = "cert.pem", key = "key.pem" }`.
pub(super) fn certificate(value: &Value<'_>) -> Read<Certificate> {
    let table = table(value, &["chain", "key"], r#"{ chain = "cert.pem", key = "key.pem" }"#)?;
    let (Some(chain), Some(key)) = (table.get("chain"), table.get("key")) else {
        return wrong(value, "needs both `chain` and `key`");
    };
    let of = |key: &'static str| move |says: String| format!("has a `{key}` that {says}");
    match (parsed(chain, |text| path(text).map_err(of("chain"))), parsed(key, |text| path(text).map_err(of("key")))) {
        (Ok(chain), Ok(key)) => Ok(Certificate { chain, key }),
        (chain, key) => Err(chain.err().into_iter().chain(key.err()).flatten().collect()),
    }
}

/// `{ user = "alice", sha256 = "…" }`.
pub(super) fn token(value: &Value<'_>) -> Read<Token> {
    let table = table(value, &["user", "sha256"], r#"{ user = "alice", sha256 = "…" }"#)?;
    let (Some(user), Some(sha256)) = (table.get("user"), table.get("sha256")) else {
        return wrong(value, "needs both `user` and `sha256`");
    };
    let of = |key: &'static str| move |says: String| format!("has a `{key}` that {says}");
    match (parsed(user, |text| user_name(text).map_err(of("user"))), parsed(sha256, |text| hash(text).map_err(of("sha256")))) {
        (Ok(user), Ok(sha256)) => Ok(Token { user: user.into(), sha256 }),
        (user, sha256) => Err(user.err().into_iter().chain(sha256.err()).flatten().collect()),
    }
}

/// Basic splits at the first colon (RFC 7617 §2), and `-` stands for nobody in the log.
pub fn user_name(text: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&text.len())
        && text != "-"
        && !text.contains([':', '"', '\\'])
        && text.bytes().all(|b| (0x21..0x7f).contains(&b));
    if fits {
        Ok(text.into())
    } else {
        Err("must be 1 to 64 visible ASCII characters without colon, quote or backslash, and not `-` alone".into())
    }
}

fn hash(text: &str) -> Result<[u8; 32], String> {
    let mut hash = [0; 32];
    // The text is not repeated: somebody may have written the token itself here.
    let wrong = || "must be the SHA-256 of the token, 64 hexadecimal digits (`masque-relay cert token` prints both)".to_owned();
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    if hash == Token::new("", "").sha256 {
        return Err("is the SHA-256 of nothing: hash the token itself".into());
    }
    Ok(hash)
}

/// A serial number or a SHA-256 fingerprint in one form: lower case, no colons, no zeros in front of a serial number.
pub fn revocable(text: &str) -> Result<String, String> {
    let digits: String = text.chars().filter(|&c| c != ':').map(|c| c.to_ascii_lowercase()).collect();
    if digits.is_empty() || digits.len() > FINGERPRINT || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!(
            "must hold serial numbers or SHA-256 fingerprints, hexadecimal, as `masque-relay cert inspect` shows them, not `{}`",
            text.escape_debug()
        ));
    }
    if digits.len() == FINGERPRINT {
        return Ok(digits);
    }
    let serial = digits.trim_start_matches('0');
    Ok(if serial.is_empty() { "0".into() } else { serial.into() })
}

/// Digits of a SHA-256.
const FINGERPRINT: usize = 64;

/// `{ allow = [...] }` or `{ deny = [...] }`. Names and networks in one list become two rules: what matches either is meant.
pub(super) fn rule(value: &Value<'_>) -> Read<Vec<Rule>> {
    let table = table(value, &["allow", "deny", "ports", "protocols", "denial"], r#"{ allow = ["example.com"] }"#)?;
    let (allow, what) = match (table.get("allow"), table.get("deny")) {
        (Some(what), None) => (true, what),
        (None, Some(what)) => (false, what),
        (Some(_), Some(_)) => return wrong(value, "cannot both allow and deny: write two rules"),
        (None, None) => return wrong(value, "needs `allow` or `deny`: a list of names and networks, or [\"*\"] for everything"),
    };
    let mut wrongs = Vec::new();
    let mut keep = |more: Vec<Wrong>| wrongs.extend(more);
    let targets = list(what, MOST_TARGETS, |target| parsed(target, parse_target)).map_err(&mut keep).unwrap_or_default();
    let ports = table.get("ports").map_or(Ok(Vec::new()), |ports| list(ports, 256, port_range)).map_err(&mut keep).unwrap_or_default();
    let protocols = table
        .get("protocols")
        .map_or(Ok(Vec::new()), |protocols| list(protocols, 2, |protocol| choice(protocol, &PROTOCOLS)))
        .map_err(&mut keep)
        .unwrap_or_default();
    let denial = table.get("denial").map(|denial| choice(denial, &DENIALS)).transpose().map_err(&mut keep).unwrap_or_default();
    if allow && let Some(denial) = table.get("denial") {
        keep(vec![Wrong { at: denial.span(), says: "has no meaning in a rule that allows".into() }]);
    }
    // An empty list would match everything: nobody who writes one means that.
    for empty in [Some(what), table.get("ports"), table.get("protocols")].into_iter().flatten() {
        if empty.get_ref().as_array().is_some_and(|list| list.is_empty()) {
            keep(vec![Wrong {
                at: empty.span(),
                says: "is an empty list: write [\"*\"] for everything, or leave ports and protocols out".into(),
            }]);
        }
    }
    let everything = targets.iter().any(|target| matches!(target, Target::Everything));
    if everything && targets.len() > 1 {
        keep(vec![Wrong { at: what.span(), says: "has `*`, so its other elements mean nothing".into() }]);
    }
    if !wrongs.is_empty() {
        return Err(wrongs);
    }
    let (mut names, mut networks) = (Vec::new(), Vec::new());
    for target in targets {
        match target {
            Target::Everything => {}
            Target::Name(name) => names.push(name),
            Target::Network(network) => networks.push(network),
        }
    }
    let base = Rule { allow, ports, protocols, denial, ..Rule::default() };
    let mut rules = Vec::new();
    if everything || !names.is_empty() {
        rules.push(Rule { names, ..base.clone() });
    }
    if !networks.is_empty() {
        rules.push(Rule { networks, ..base });
    }
    Ok(rules)
}

/// One element of a rule's list.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Everything,
    Name(String),
    Network(IpNet),
}

fn parse_target(text: &str) -> Result<Target, String> {
    if text == "*" {
        return Ok(Target::Everything);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Target::Network(address.into()));
    }
    if text.contains('/') {
        let network: IpNet = text.parse().map_err(|_| format!("must hold networks like `192.0.2.0/24`, not `{}`", text.escape_debug()))?;
        if network.trunc() != network {
            return Err(format!("has `{network}`, an address with a prefix: write `{}`, or the address alone", network.trunc()));
        }
        return Ok(Target::Network(network));
    }
    host_name(text).map(Target::Name)
}

/// A name as rules keep it: lower case, no final dot, `.example.com` for a domain with all under it.
fn host_name(text: &str) -> Result<String, String> {
    if let Some(domain) = text.strip_prefix("*.") {
        return Err(format!("has `{}`: write `.{}` for a domain and all under it", text.escape_debug(), domain.escape_debug()));
    }
    if !text.is_ascii() {
        return Err(format!("has `{}`: write the name in its ASCII form (`xn--…`)", text.escape_debug()));
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let labels = name.strip_prefix('.').unwrap_or(&name);
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let numeric = labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if labels.len() > 253 || numeric || !labels.split('.').all(label) {
        return Err(format!("must hold names like `example.com` or `.example.com`, and networks, not `{}`", text.escape_debug()));
    }
    Ok(name)
}

/// `"443"`, `"8000-8999"`, or the number 443.
fn port_range(value: &Value<'_>) -> Read<(u16, u16)> {
    if let DeValue::Integer(_) = value.get_ref() {
        let port = number(value, 1..=65535)? as u16;
        return Ok((port, port));
    }
    parsed(value, |text| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
            (Ok(first), Ok(last)) if 0 < first && first <= last => Ok((first, last)),
            _ => Err(format!("must hold ports like `443` or `8000-8999` (1 to 65535), not `{}`", text.escape_debug())),
        }
    })
}

/// Rules are searched one after the other for every request.
const MOST_TARGETS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_revoked_has_one_form() {
        for (written, meant) in [("00:AB:0c", "ab0c"), ("0", "0"), ("1f", "1f")] {
            assert_eq!(revocable(written).unwrap(), meant);
        }
        for wrong in ["", ":", "xyz", &"a".repeat(65)] {
            revocable(wrong).unwrap_err();
        }
    }
}
