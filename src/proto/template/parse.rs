//! From a template's text to its pieces (RFC 6570 §2, RFC 9298 §2).

use super::{Piece, Template, TemplateError, is_unreserved};

pub(super) fn template(text: &str) -> Result<Template, TemplateError> {
    if let Some(char) = text.chars().find(|char| !char.is_ascii_graphic()) {
        return Err(wrong(format!("a template holds visible ASCII characters only: percent-encode `{}`", char.escape_default())));
    }
    let mut parser = Parser::default();
    let mut rest = path_of(text)?;
    while let Some((literal, expression)) = rest.split_once('{') {
        parser.literal(literal)?;
        let (expression, behind) = expression.split_once('}').ok_or_else(|| wrong("a `{` has no `}`"))?;
        parser.expression(expression)?;
        rest = behind;
    }
    parser.literal(rest)?;
    parser.finish()
}

/// Path and query of an absolute template, or of one that is a path already.
fn path_of(text: &str) -> Result<&str, TemplateError> {
    if text.starts_with('/') {
        return Ok(text);
    }
    let rest = match text.split_at_checked("https://".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https://") => rest,
        _ => return Err(wrong("a template begins with `https://`, or with `/` where it is the path alone")),
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('{') {
        return Err(wrong("a template begins its path with `/`, and holds variables only behind that"));
    }
    if authority.is_empty() {
        return Err(wrong("a template names the relay behind `https://`"));
    }
    if !path.starts_with('/') {
        return Err(wrong(format!("a template has a path: write `https://{authority}/{path}`")));
    }
    Ok(path)
}

#[derive(Default)]
struct Parser {
    path: Vec<Piece>,
    query: Option<Vec<Piece>>,
}

impl Parser {
    fn literal(&mut self, text: &str) -> Result<(), TemplateError> {
        check_literal(text)?;
        if self.query.is_some() {
            self.text(text);
            return Ok(());
        }
        let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
        self.text(path);
        if let Some(query) = query {
            self.query = Some(Vec::new());
            self.text(query);
        }
        Ok(())
    }

    /// What stands between `{` and `}`.
    fn expression(&mut self, expression: &str) -> Result<(), TemplateError> {
        let (operator, names) = match expression.chars().next() {
            Some(operator) if !operator.is_ascii_alphanumeric() && operator != '_' => expression.split_at(operator.len_utf8()),
            _ => ("", expression),
        };
        match (operator, &self.query) {
            ("", _) | ("&", Some(_)) => {}
            ("?", None) => self.query = Some(Vec::new()),
            ("?", Some(_)) => return Err(wrong(format!("the template has a query already: write `{{&{names}}}`"))),
            ("&", None) => return Err(wrong(format!("the template has no query yet: write `{{?{names}}}`"))),
            _ => return Err(wrong(format!("RFC 9298 does not allow `{{{expression}}}`: write `{{{names}}}`"))),
        }
        for (at, name) in names.split(',').enumerate() {
            match operator {
                "?" if at == 0 => self.text(&format!("{name}=")),
                "?" | "&" => self.text(&format!("&{name}=")),
                _ if at > 0 => self.text(","),
                _ => {}
            }
            self.variable(name)?;
        }
        Ok(())
    }

    fn variable(&mut self, name: &str) -> Result<(), TemplateError> {
        let piece = match name {
            "target_host" => Piece::Host,
            "target_port" => Piece::Port,
            _ if name.ends_with('*') || name.contains(':') => {
                return Err(wrong(format!("RFC 9298 does not allow the modifier in `{name}`: remove it")));
            }
            _ => return Err(wrong(format!("`{{{name}}}` has no value here: the variables are `target_host` and `target_port`"))),
        };
        if self.path.iter().chain(self.query.iter().flatten()).any(|earlier| *earlier == piece) {
            return Err(wrong(format!("`{name}` stands twice: remove one")));
        }
        if matches!(self.current().last(), Some(Piece::Host | Piece::Port)) {
            return Err(wrong("nothing separates the two variables: put `/` or the like between them"));
        }
        self.current().push(piece);
        Ok(())
    }

    fn text(&mut self, text: &str) {
        match self.current().last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Text(earlier)) => earlier.push_str(text),
            _ => self.current().push(Piece::Text(text.to_owned())),
        }
    }

    fn current(&mut self) -> &mut Vec<Piece> {
        self.query.as_mut().unwrap_or(&mut self.path)
    }

    fn finish(mut self) -> Result<Template, TemplateError> {
        for (piece, name) in [(Piece::Host, "target_host"), (Piece::Port, "target_port")] {
            if !self.path.iter().chain(self.query.iter().flatten()).any(|there| *there == piece) {
                return Err(wrong(format!("`{name}` is missing: add `{{{name}}}`")));
            }
        }
        check_ends(&self.path)?;
        check_ends(self.query.as_deref().unwrap_or_default())?;
        Ok(Template { slash: take_slash(&mut self.path), path: self.path, query: self.query })
    }
}

/// The text behind a variable must begin with what a variable never holds, or nobody could say where the variable ends.
fn check_ends(pieces: &[Piece]) -> Result<(), TemplateError> {
    for pair in pieces.windows(2) {
        if let [Piece::Host | Piece::Port, Piece::Text(text)] = pair
            && text.bytes().next().is_some_and(|first| is_unreserved(first) || first == b'%')
        {
            return Err(wrong(format!("nobody can tell where a variable ends and `{text}` begins: put `/` or the like between them")));
        }
    }
    Ok(())
}

/// Takes the slash off the end of a path. The one it begins with stays.
fn take_slash(path: &mut Vec<Piece>) -> bool {
    let first = path.len() == 1;
    let Some(Piece::Text(text)) = path.last_mut() else { return false };
    if !text.ends_with('/') || (first && text.len() == 1) {
        return false;
    }
    text.pop();
    if text.is_empty() {
        path.pop();
    }
    true
}

/// Literals stand on the wire as they stand here, so they must be what a URI can hold (RFC 3986 §2).
fn check_literal(text: &str) -> Result<(), TemplateError> {
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        let mut hex = || rest.next().is_some_and(|digit| digit.is_ascii_hexdigit());
        match octet {
            b'%' if hex() && hex() => {}
            b'%' => return Err(wrong("a `%` is not followed by two hexadecimal digits: write `%25`")),
            b'#' => return Err(wrong("a template has no fragment: remove everything from `#` on")),
            b'}' => return Err(wrong("a `}` has no `{`")),
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'|' => {
                return Err(wrong(format!("`{}` cannot stand in a URI: write `%{octet:X}`", char::from(octet))));
            }
            _ => {}
        }
    }
    Ok(())
}

fn wrong(says: impl Into<String>) -> TemplateError {
    TemplateError(says.into())
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::{super::WELL_KNOWN, *};

    pub(in super::super) const GOOD: &[&str] = &[
        WELL_KNOWN,
        "https://relay.example/.well-known/masque/udp/{target_host}/{target_port}/",
        "HTTPS://relay.example:8443/{target_host}/{target_port}",
        "/masque?h={target_host}&p={target_port}",
        "/masque{?target_host,target_port}",
        "/masque{?target_port,target_host}",
        "/masque?x=y{&target_host,target_port}",
        "/masque?x=y/%C3%A4{&target_port}&z{&target_host}",
        "/masque/{target_port}{?target_host}",
        "/masque/{target_host}/?p={target_port}",
        "/masque/{target_host,target_port}/",
        "/{target_port},{target_host}/end",
        "/?h={target_host}&p={target_port}",
        "/u:{target_host}:{target_port}//",
    ];

    #[test]
    fn good_templates_mean_what_they_show() {
        for text in GOOD {
            let parsed = template(text).unwrap();
            assert_eq!(template(&parsed.to_string()), Ok(parsed), "{text}");
        }
        for (text, shown) in [
            (GOOD[1], WELL_KNOWN),
            (GOOD[3], GOOD[3]),
            (GOOD[4], "/masque?target_host={target_host}&target_port={target_port}"),
            (GOOD[7], "/masque?x=y/%C3%A4&target_port={target_port}&z&target_host={target_host}"),
            (GOOD[10], "/masque/{target_host},{target_port}/"),
            (GOOD[13], GOOD[13]),
        ] {
            assert_eq!(template(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn an_error_says_what_to_change() {
        for (text, says) in [
            ("", "a template begins with `https://`, or with `/` where it is the path alone"),
            ("masque/{target_host}/{target_port}/", "a template begins with `https://`, or with `/` where it is the path alone"),
            ("http://a/{target_host}/{target_port}/", "a template begins with `https://`, or with `/` where it is the path alone"),
            ("https:///{target_host}/{target_port}/", "a template names the relay behind `https://`"),
            ("https://a?h={target_host}&p={target_port}", "a template has a path: write `https://a/?h={target_host}&p={target_port}`"),
            ("https://{target_host}:{target_port}/", "a template begins its path with `/`, and holds variables only behind that"),
            ("https://a{?target_host,target_port}", "a template begins its path with `/`, and holds variables only behind that"),
            ("/{target_host}/", "`target_port` is missing: add `{target_port}`"),
            ("/{target_port}/", "`target_host` is missing: add `{target_host}`"),
            ("/{target_host}/{target_host}/{target_port}/", "`target_host` stands twice: remove one"),
            ("/{target_port}?h={target_host}&p={target_port}", "`target_port` stands twice: remove one"),
            ("/{+target_host}/{target_port}/", "RFC 9298 does not allow `{+target_host}`: write `{target_host}`"),
            ("/{#target_host}/{target_port}/", "RFC 9298 does not allow `{#target_host}`: write `{target_host}`"),
            ("/{.target_host}/{target_port}/", "RFC 9298 does not allow `{.target_host}`: write `{target_host}`"),
            ("/m{/target_host,target_port}", "RFC 9298 does not allow `{/target_host,target_port}`: write `{target_host,target_port}`"),
            ("/{;target_host}/{target_port}/", "RFC 9298 does not allow `{;target_host}`: write `{target_host}`"),
            ("/{target_host:3}/{target_port}/", "RFC 9298 does not allow the modifier in `target_host:3`: remove it"),
            ("/{target_host*}/{target_port}/", "RFC 9298 does not allow the modifier in `target_host*`: remove it"),
            ("/{host}/{target_port}/", "`{host}` has no value here: the variables are `target_host` and `target_port`"),
            ("/{}/{target_port}/", "`{}` has no value here: the variables are `target_host` and `target_port`"),
            ("/m?a{?target_host,target_port}", "the template has a query already: write `{&target_host,target_port}`"),
            ("/m{&target_host,target_port}", "the template has no query yet: write `{?target_host,target_port}`"),
            ("/{target_host}{target_port}/", "nothing separates the two variables: put `/` or the like between them"),
            ("/{target_host}-{target_port}/", "nobody can tell where a variable ends and `-` begins: put `/` or the like between them"),
            ("/{target_host}%2F{target_port}/", "nobody can tell where a variable ends and `%2F` begins: put `/` or the like between them"),
            ("/{target_host}/{target_port}/#x", "a template has no fragment: remove everything from `#` on"),
            (
                "/{target_host/{target_port}/",
                "`{target_host/{target_port}` has no value here: the variables are `target_host` and `target_port`",
            ),
            ("/{target_host}/{target_port", "a `{` has no `}`"),
            ("/target_host}/{target_port}/", "a `}` has no `{`"),
            ("/%zz/{target_host}/{target_port}/", "a `%` is not followed by two hexadecimal digits: write `%25`"),
            ("/a|b/{target_host}/{target_port}/", "`|` cannot stand in a URI: write `%7C`"),
            ("/a b/{target_host}/{target_port}/", "a template holds visible ASCII characters only: percent-encode ` `"),
            ("/\u{e4}/{target_host}/{target_port}/", "a template holds visible ASCII characters only: percent-encode `\\u{e4}`"),
        ] {
            assert_eq!(template(text), Err(wrong(says)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in r"(https://a)?/([a%/?#&,+]|\{[?&]?target_host\}|\{[?&]?target_port\}|[{}]){0,9}") {
            if let Ok(parsed) = template(&text) {
                prop_assert_eq!(template(&parsed.to_string()), Ok(parsed));
            }
        }
    }
}
