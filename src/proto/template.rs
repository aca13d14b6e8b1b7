//! URI templates of CONNECT-UDP (RFC 9298 §2, RFC 6570): where the two variables stand in a path, and back.
//!
//! Of RFC 6570 there is what RFC 9298 leaves: `{var}`, `{?var}` and `{&var}`, each also with both variables. All three are text and
//! variables in turn, so a template is a list of such pieces for the path and one for the query, and a request must fit it to the letter.

use std::fmt;

mod parse;

/// The path every relay serves (RFC 9298 §2, §3).
pub const WELL_KNOWN: &str = "/.well-known/masque/udp/{target_host}/{target_port}/";

/// A template with `target_host` and `target_port` once each: simple expansion `{target_host}` in path segments or query values,
/// or form-style query `{?target_host,target_port}` (RFC 9298 §2 allows level 3 operators but not reserved expansion).
///
/// Scheme and authority are not kept: a relay serves a template on all its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Begins with text that begins with `/`; without the slash at its end.
    path: Vec<Piece>,
    /// The template has a slash at the end of its path.
    slash: bool,
    query: Option<Vec<Piece>>,
}

/// Why a text is no template this relay can serve; says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub String);

/// What a path says when it is laid against a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// Another path: not ours.
    No,
    /// Ours, but with extra segments, an unexpected query, or text that decodes to nothing sensible (C-19, C-20, C-24). Says why.
    /// A template that begins with a variable calls every path ours: one of several templates may still give a target.
    Malformed(&'static str),
    /// The variables, percent-decoded exactly once, not yet judged as host and port.
    Target {
        /// `target_host`: not empty, without `/`, `%` and control characters.
        host: String,
        /// `target_port`: likewise; not necessarily a number.
        port: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// As it stands on the wire; never empty.
    Text(String),
    Host,
    Port,
}

impl Template {
    /// Parses an absolute template (`https://relay.example/masque?h={target_host}&p={target_port}`) or just its path.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        parse::template(text)
    }

    /// The well-known template.
    pub fn well_known() -> Self {
        Self::parse(WELL_KNOWN).expect("the well-known template is one")
    }

    /// Lays a request's `:path` against the template. A missing trailing slash is accepted (C-19). Percent-encoded octets are decoded once;
    /// control bytes, `/`, NUL, non-UTF-8 and a second layer of encoding are `Malformed` (C-24), and with the latter zone identifiers (C-23).
    pub fn lay(&self, path: &str) -> Match {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        if !self.is_ours(path) {
            return Match::No;
        }
        match self.variables(self.without_slash(path), query) {
            Ok((host, port)) => Match::Target { host, port },
            Err(why) => Match::Malformed(why),
        }
    }

    /// The path for a target; `host` is percent-encoded (`2001:db8::1` gives `2001%3Adb8%3A%3A1`).
    pub fn expand(&self, host: &str, port: u16) -> String {
        self.written(&percent_encode(host), &port.to_string())
    }

    /// Whether a path, fitting or not, is this template's: it begins as the template does.
    fn is_ours(&self, path: &str) -> bool {
        match &self.path[..] {
            [Piece::Text(all)] => self.without_slash(path) == all,
            [Piece::Text(front), ..] => path.starts_with(front.as_str()),
            _ => false,
        }
    }

    fn without_slash<'a>(&self, path: &'a str) -> &'a str {
        if self.slash { path.strip_suffix('/').unwrap_or(path) } else { path }
    }

    fn variables(&self, path: &str, query: Option<&str>) -> Result<(String, String), &'static str> {
        let mut raw = Raw::default();
        raw.read(&self.path, path)?;
        match (&self.query, query) {
            (None, None) => {}
            (None, Some(_)) => return Err("the path has a query and the template has none"),
            (Some(_), None) => return Err("the query is missing"),
            (Some(pieces), Some(query)) => raw.read(pieces, query)?,
        }
        if raw.host.is_empty() {
            return Err("`target_host` is empty");
        }
        if raw.port.is_empty() {
            return Err("`target_port` is empty");
        }
        Ok((percent_decode(raw.host)?, percent_decode(raw.port)?))
    }

    /// The template with `host` and `port` where the variables stand.
    fn written(&self, host: &str, port: &str) -> String {
        let mut out = String::new();
        let write = |pieces: &[Piece], out: &mut String| {
            for piece in pieces {
                out.push_str(match piece {
                    Piece::Text(text) => text,
                    Piece::Host => host,
                    Piece::Port => port,
                });
            }
        };
        write(&self.path, &mut out);
        if self.slash {
            out.push('/');
        }
        if let Some(query) = &self.query {
            out.push('?');
            write(query, &mut out);
        }
        out
    }
}

/// The template's path and query, in the simplest form that means the same.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written("{target_host}", "{target_port}"))
    }
}

/// The variables as they stand on the wire.
#[derive(Default)]
struct Raw<'a> {
    host: &'a str,
    port: &'a str,
}

impl<'a> Raw<'a> {
    /// Reads the variables out of a path or a query, all of which must fit.
    fn read(&mut self, pieces: &[Piece], mut text: &'a str) -> Result<(), &'static str> {
        let mut pieces = pieces.iter().peekable();
        while let Some(piece) = pieces.next() {
            match piece {
                Piece::Text(wanted) => text = text.strip_prefix(wanted.as_str()).ok_or("the path does not fit the template")?,
                Piece::Host => (self.host, text) = until(text, pieces.peek()),
                Piece::Port => (self.port, text) = until(text, pieces.peek()),
            }
        }
        if text.is_empty() { Ok(()) } else { Err("the path goes on where the template ends") }
    }
}

/// Cuts `text` where a variable ends: in front of `next`, which begins with no character a variable can hold, or of what separates
/// segments and query values anyway.
fn until<'a>(text: &'a str, next: Option<&&Piece>) -> (&'a str, &'a str) {
    let next = match next {
        Some(Piece::Text(next)) => next.chars().next(),
        _ => None,
    };
    let end = text.find(|char| Some(char) == next || matches!(char, '/' | '&' | '#'));
    text.split_at(end.unwrap_or(text.len()))
}

/// Decodes once, and accepts only what nobody would decode again or cut in two (C-24).
fn percent_decode(raw: &str) -> Result<String, &'static str> {
    let mut octets = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'%' {
            octets.push(octet);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err("`%` is not followed by two hexadecimal digits");
        };
        octets.push((high << 4 | low) as u8);
    }
    let text = String::from_utf8(octets).map_err(|_| "a variable is not UTF-8")?;
    if text.contains('%') {
        return Err("a variable is percent-encoded twice or holds a zone identifier");
    }
    if text.contains('/') {
        return Err("a variable holds a slash");
    }
    if text.contains(char::is_control) {
        return Err("a variable holds control characters");
    }
    Ok(text)
}

/// Encodes everything that is not unreserved (RFC 6570 §3.2.1).
fn percent_encode(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        if is_unreserved(octet) {
            out.push(char::from(octet));
        } else {
            out.extend(['%', char::from(DIGITS[usize::from(octet >> 4)]), char::from(DIGITS[usize::from(octet & 0xf)])]);
        }
    }
    out
}

/// RFC 3986 §2.3.
fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUERY: &str = "https://relay.example/masque?h={target_host}&p={target_port}";
    const FORM: &str = "/masque{?target_host,target_port}";

    #[test]
    fn c18_the_well_known_path_gives_its_variables() {
        let template = Template::well_known();
        assert_eq!(template.lay("/.well-known/masque/udp/192.0.2.6/443/"), target("192.0.2.6", "443"));
        assert_eq!(template.lay("/.well-known/masque/udp/target.example/1/"), target("target.example", "1"));
        assert_eq!(template.lay("/.well-known/masque/udp/*/*/"), target("*", "*"));
        assert_eq!(template.to_string(), WELL_KNOWN);
    }

    #[test]
    fn c19_a_missing_trailing_slash_is_accepted() {
        assert_eq!(Template::well_known().lay("/.well-known/masque/udp/a/1"), target("a", "1"));
        let template = Template::parse("/masque/?h={target_host}&p={target_port}").unwrap();
        assert_eq!(template.lay("/masque/?h=a&p=1"), target("a", "1"));
        assert_eq!(template.lay("/masque?h=a&p=1"), target("a", "1"));
    }

    #[test]
    fn c19_what_is_ours_and_does_not_fit_is_malformed() {
        let (no_query, too_long, no_fit) = (
            "the path has a query and the template has none",
            "the path goes on where the template ends",
            "the path does not fit the template",
        );
        for (template, path, why) in [
            (WELL_KNOWN, "/.well-known/masque/udp/a/1/b", too_long),
            (WELL_KNOWN, "/.well-known/masque/udp/a/1/b/", too_long),
            (WELL_KNOWN, "/.well-known/masque/udp/a/1//", too_long),
            (WELL_KNOWN, "/.well-known/masque/udp/a/1&x", too_long),
            (WELL_KNOWN, "/.well-known/masque/udp/a/1#x", too_long),
            (WELL_KNOWN, "/.well-known/masque/udp/a/1/?", no_query),
            (WELL_KNOWN, "/.well-known/masque/udp/a/1/?x=y", no_query),
            (WELL_KNOWN, "/.well-known/masque/udp/a/1?x=y", no_query),
            (WELL_KNOWN, "/.well-known/masque/udp/a", no_fit),
            (WELL_KNOWN, "/.well-known/masque/udp/a/", no_fit),
            (WELL_KNOWN, "/.well-known/masque/udp/", no_fit),
            (WELL_KNOWN, "/.well-known/masque/udp/a?b/1/", no_fit),
            (QUERY, "/masque", "the query is missing"),
            (QUERY, "/masque?", no_fit),
            (QUERY, "/masque?h=a", no_fit),
            (QUERY, "/masque?p=1&h=a", no_fit),
            (QUERY, "/masque?h=a&p=1&x=y", too_long),
            (QUERY, "/masque?h=a&p=1?", ""), // judged as a port
        ] {
            let wanted = if why.is_empty() { target("a", "1?") } else { Match::Malformed(why) };
            assert_eq!(Template::parse(template).unwrap().lay(path), wanted, "{path}");
        }
    }

    #[test]
    fn another_path_is_not_ours() {
        for path in ["", "*", "/", "/x", "/.well-known/masque/ip/a/1/", "/.well-known/masque/udp", "/.WELL-KNOWN/masque/udp/a/1/"] {
            assert_eq!(Template::well_known().lay(path), Match::No, "{path}");
        }
        for path in ["/masque/", "/masque/x?h=a&p=1", "/masquex?h=a&p=1", "/mas?h=a&p=1", "?h=a&p=1"] {
            assert_eq!(Template::parse(QUERY).unwrap().lay(path), Match::No, "{path}");
        }
    }

    #[test]
    fn c20_empty_variables_are_malformed() {
        for (template, path, why) in [
            (WELL_KNOWN, "/.well-known/masque/udp//443/", "`target_host` is empty"),
            (WELL_KNOWN, "/.well-known/masque/udp/a//", "`target_port` is empty"),
            (WELL_KNOWN, "/.well-known/masque/udp///", "`target_host` is empty"),
            (QUERY, "/masque?h=&p=1", "`target_host` is empty"),
            (QUERY, "/masque?h=a&p=", "`target_port` is empty"),
        ] {
            assert_eq!(Template::parse(template).unwrap().lay(path), Match::Malformed(why), "{path}");
        }
    }

    #[test]
    fn c21_ports_are_handed_on_as_text() {
        for (raw, port) in [("0", "0"), ("65536", "65536"), ("-1", "-1"), ("+53", "+53"), ("0x35", "0x35"), ("53%20", "53 ")] {
            assert_eq!(Template::well_known().lay(&format!("/.well-known/masque/udp/a/{raw}/")), target("a", port));
        }
    }

    #[test]
    fn c22_ipv6_literals_are_decoded_once() {
        for host in ["2001%3Adb8%3A%3A1", "2001%3adb8%3a%3a1", "2001:db8::1"] {
            assert_eq!(Template::well_known().lay(&format!("/.well-known/masque/udp/{host}/443/")), target("2001:db8::1", "443"));
        }
        assert_eq!(Template::well_known().lay("/.well-known/masque/udp/%5B::1%5D/443/"), target("[::1]", "443"));
    }

    #[test]
    fn c23_c24_no_trick_of_encoding_survives() {
        let twice = "a variable is percent-encoded twice or holds a zone identifier";
        let no_digits = "`%` is not followed by two hexadecimal digits";
        for (host, why) in [
            ("fe80%3A%3A1%25eth0", twice),
            ("%2531", twice),
            ("a%25", twice),
            ("%25%32%66", twice),
            ("a%2Fb", "a variable holds a slash"),
            ("a%2f", "a variable holds a slash"),
            ("a%00", "a variable holds control characters"),
            ("a%0d%0ab", "a variable holds control characters"),
            ("a%7F", "a variable holds control characters"),
            ("a%C2%85", "a variable holds control characters"),
            ("%ff", "a variable is not UTF-8"),
            ("%c0%af", "a variable is not UTF-8"),
            ("a%", no_digits),
            ("a%2", no_digits),
            ("a%2g", no_digits),
            ("a%+1", no_digits),
            ("a%%31", no_digits),
            ("%\u{e4}", no_digits),
        ] {
            let template = Template::well_known();
            assert_eq!(template.lay(&format!("/.well-known/masque/udp/{host}/443/")), Match::Malformed(why), "{host}");
            assert_eq!(template.lay(&format!("/.well-known/masque/udp/a/{host}/")), Match::Malformed(why), "{host}");
        }
    }

    #[test]
    fn targets_expand_as_rfc_9298_shows() {
        for (template, host, path) in [
            (WELL_KNOWN, "192.0.2.6", "/.well-known/masque/udp/192.0.2.6/443/"),
            (WELL_KNOWN, "2001:db8::42", "/.well-known/masque/udp/2001%3Adb8%3A%3A42/443/"),
            (WELL_KNOWN, "a-b_c~d.example", "/.well-known/masque/udp/a-b_c~d.example/443/"),
            (WELL_KNOWN, "a/\u{e4}", "/.well-known/masque/udp/a%2F%C3%A4/443/"),
            (QUERY, "target.example", "/masque?h=target.example&p=443"),
            (FORM, "target.example", "/masque?target_host=target.example&target_port=443"),
        ] {
            assert_eq!(Template::parse(template).unwrap().expand(host, 443), path);
        }
    }

    proptest! {
        #[test]
        fn what_is_expanded_lays_back(
            host in r"[a-z0-9_.-]{1,60}|[0-9a-f:.]{2,40}|\*|[^/%\pC]{1,20}",
            port: u16,
            template in prop::sample::select(parse::tests::GOOD),
        ) {
            let template = Template::parse(template).unwrap();
            prop_assert_eq!(template.lay(&template.expand(&host, port)), target(&host, &port.to_string()));
        }

        #[test]
        fn no_path_panics(rest in "[%a-f0-9/?&=#*\u{e4}]{0,20}", template in prop::sample::select(parse::tests::GOOD)) {
            let template = Template::parse(template).unwrap();
            for front in ["", "/", "/.well-known/masque/udp/", "/masque?h="] {
                if let Match::Target { host, port } = template.lay(&format!("{front}{rest}")) {
                    prop_assert!(!host.is_empty() && !host.contains(['/', '%']));
                    prop_assert!(!port.is_empty() && !port.contains(['/', '%']));
                }
            }
        }
    }

    fn target(host: &str, port: &str) -> Match {
        Match::Target { host: host.into(), port: port.into() }
    }
}
