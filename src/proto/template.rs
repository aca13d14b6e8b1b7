//! URI templates of CONNECT-UDP (RFC 9298 §2, RFC 6570): where the two variables stand in a path, and back.

/// The path every relay serves (RFC 9298 §2, §3).
pub const WELL_KNOWN: &str = "/.well-known/masque/udp/{target_host}/{target_port}/";

/// A template with `target_host` and `target_port` once each: simple expansion `{target_host}` in path segments or query values,
/// or form-style query `{?target_host,target_port}` (RFC 9298 §2 allows level 3 operators but not reserved expansion).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template { /* private */ }

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
    Malformed(&'static str),
    /// The variables, percent-decoded exactly once, not yet judged as host and port.
    Target { host: String, port: String },
}

impl Template {
    /// Parses an absolute template (`https://relay.example/masque?h={target_host}&p={target_port}`) or just its path.
    pub fn parse(text: &str) -> Result<Self, TemplateError> { todo!() }

    /// The well-known template.
    pub fn well_known() -> Self { todo!() }

    /// Lays a request's `:path` against the template. A missing trailing slash is accepted (C-19). Percent-encoded octets are decoded once;
    /// control bytes, `/`, NUL, non-UTF-8 and a second layer of encoding are `Malformed` (C-24).
    pub fn lay(&self, path: &str) -> Match { todo!() }

    /// The path for a target; `host` is percent-encoded (`2001:db8::1` gives `2001%3Adb8%3A%3A1`).
    pub fn expand(&self, host: &str, port: u16) -> String { todo!() }
}
