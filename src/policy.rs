//! Whether the client may: credentials, then rules, then caps. The answer is a [`Permit`], and nothing dials without one.
//!
//! A policy is exchanged as a whole. [`Policy::replaced`] tells whoever was let in by the old one, and [`Standing::counts`] whether the new one still would.

pub mod limits;
pub mod rules;
mod special;
mod standing;

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tracing::info;
use zeroize::Zeroizing;

use crate::{
    certs::{
        self,
        client::{Authorities, Shown},
    },
    config::{Config, Protocol},
    proto::head::Head,
    refusal::Refusal,
    request::{Ask, Request, Target},
};

use limits::{Limits, Slot};
use rules::Rules;
pub use standing::{Counts, Standing};

/// What is decided by the configuration, compiled. Swapped as a whole on reload.
#[derive(Debug)]
pub struct Policy {
    open: bool,
    /// Lower case.
    header: String,
    tokens: Vec<Arc<Token>>,
    /// Whose certificates of clients count, where any do.
    authorities: Option<Arc<Authorities>>,
    revoked: Vec<String>,
    rules: Arc<Rules>,
    /// Cancelled when another policy counts, or the relay is cut short.
    over: CancellationToken,
}

/// Leave to reach one target. Only [`Policy::permit`] makes one.
#[derive(Debug)]
#[non_exhaustive]
pub struct Permit {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where to.
    pub target: Target,
    /// Who asked, and by what the relay knows.
    pub standing: Standing,
    /// Judges every address before it is dialled.
    pub rules: Arc<Rules>,
    /// The tunnel counts against the caps while this lives.
    pub slot: Slot,
}

impl Policy {
    /// Compiles the configuration. `own` are the relay's own listening addresses: never a target. Certificates of `authorities` count. `over` is what
    /// [`Self::replaced`] waits for.
    pub fn new(config: &Config, own: Vec<SocketAddr>, authorities: Option<Arc<Authorities>>, over: CancellationToken) -> Self {
        Self {
            open: config.access.open,
            header: config.access.header.to_ascii_lowercase(),
            tokens: config.access.tokens.iter().map(|token| Arc::new(Token::of(token))).collect(),
            authorities,
            revoked: config.access.revoked.clone(),
            rules: Arc::new(Rules::new(&config.rules, own)),
            over,
        }
    }

    /// Those whose certificates count `now`; as they are known here where they are the same, so that what they have signed is not verified anew.
    pub fn kept(&self, now: Option<Arc<Authorities>>) -> Option<Arc<Authorities>> {
        self.authorities.clone().filter(|known| now.as_ref().is_some_and(|now| known.are(now))).or(now)
    }

    /// It no longer counts: its successor does already.
    pub fn replace(&self) {
        self.over.cancel();
    }

    /// Resolves when another policy counts, or the relay is cut short. Cancel safe.
    pub fn replaced(&self) -> WaitForCancellationFuture<'_> {
        self.over.cancelled()
    }

    /// Who sent this head, or 407. In constant time for a given number of tokens. A token counts before the certificate that the connection has shown.
    pub fn authenticate(&self, head: &Head, shown: Option<&Arc<Shown>>) -> Result<Standing, Refusal> {
        if self.open {
            return Ok(Standing::Open);
        }
        let mut values = head.all(&self.header);
        let Some(value) = values.next() else { return self.certified(shown) };
        // Of several, which one would count? Then none does.
        let credentials = if values.next().is_none() { self.credentials(value) } else { None };
        let token = credentials.and_then(|credentials| self.token_of(&credentials));
        token.map(Standing::Token).ok_or(Refusal::Unauthenticated { presented: true })
    }

    /// By a certificate whose key TLS has seen at work, if it counts.
    fn certified(&self, shown: Option<&Arc<Shown>>) -> Result<Standing, Refusal> {
        let shown = shown.filter(|_| self.authorities.is_some()).ok_or(Refusal::Unauthenticated { presented: false })?;
        match self.complaint(shown, certs::now()) {
            None => Ok(Standing::Certificate(Arc::clone(shown))),
            Some(why) => {
                info!(user = %shown.user, why, "a client's certificate does not count");
                Err(Refusal::Unauthenticated { presented: true })
            }
        }
    }

    /// Why a certificate does not count.
    fn complaint(&self, shown: &Shown, now: SystemTime) -> Option<&'static str> {
        match &self.authorities {
            None => Some("no certificate does"),
            Some(authorities) => shown.complaint(authorities, &self.revoked, now),
        }
    }

    /// Decides for a client that is known. Order: unsupported, rules on the target as named, caps.
    pub fn permit(&self, request: Request, standing: Standing, limits: &Arc<Limits>) -> Result<Permit, Refusal> {
        let (protocol, target) = match request.ask {
            Ask::Tunnel(protocol, target) => (protocol, target),
            Ask::UnsupportedProtocol(protocol) => return Err(Refusal::UnsupportedProtocol(protocol)),
            Ask::UnsupportedMethod(method) => return Err(Refusal::UnsupportedMethod(method)),
            Ask::UnknownPath => return Err(Refusal::UnknownPath),
        };
        self.rules.judge_target(protocol, &target)?;
        let slot = limits.tunnel().map_err(|what| Refusal::LimitReached { what })?;
        Ok(Permit { protocol, target, standing, rules: Arc::clone(&self.rules), slot })
    }

    /// What a value of the credential field says: Basic (RFC 7617) or Bearer (RFC 6750); in a field of the operator's choice the token itself.
    fn credentials<'a>(&self, value: &'a [u8]) -> Option<Credentials<'a>> {
        if let Some(token) = after_scheme(value, "bearer") {
            return Some(Credentials::Token(token));
        }
        if self.header != "proxy-authorization" {
            return Some(Credentials::Token(value));
        }
        let pair = Zeroizing::new(STANDARD.decode(after_scheme(value, "basic")?).ok()?);
        // A user name holds no colon, a token may.
        let colon = pair.iter().position(|byte| *byte == b':')?;
        Some(Credentials::Pair { pair, colon })
    }

    /// The token that is presented. Looks at every token, whatever it has found, and compares hashes of equal length.
    fn token_of(&self, credentials: &Credentials<'_>) -> Option<Arc<Token>> {
        let (user, token) = match credentials {
            Credentials::Token(token) => (None, *token),
            Credentials::Pair { pair, colon } => (Some(sha256(&pair[..*colon])), &pair[colon + 1..]),
        };
        let token = sha256(token);
        let mut found = Choice::from(0);
        let mut index = 0_u64;
        for (candidate, known) in (0..).zip(&self.tokens) {
            let right_user = user.map_or(Choice::from(1), |user| user.ct_eq(&known.user_sha256));
            let right = right_user & token.ct_eq(&known.sha256);
            index.conditional_assign(&candidate, right);
            found |= right;
        }
        let known = self.tokens.get(usize::try_from(index).ok()?)?;
        bool::from(found).then(|| Arc::clone(known))
    }
}

/// A token as it is compared.
#[derive(PartialEq, Eq)]
pub struct Token {
    user: Arc<str>,
    user_sha256: [u8; 32],
    sha256: [u8; 32],
}

impl Token {
    fn of(token: &crate::config::Token) -> Self {
        Self { user: Arc::clone(&token.user), user_sha256: sha256(token.user.as_bytes()), sha256: token.sha256 }
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("user", &self.user).field("sha256", &"[secret]").finish_non_exhaustive()
    }
}

/// What the client presents. No Debug: it is a secret.
enum Credentials<'a> {
    /// Whose it is, the token tells.
    Token(&'a [u8]),
    /// `user:token`, and where the colon stands.
    Pair { pair: Zeroizing<Vec<u8>>, colon: usize },
}

/// What follows an authentication scheme; its name is in any case, and spaces follow it (RFC 9110 §11.4).
fn after_scheme<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let (name, rest) = value.split_at_checked(scheme.len())?;
    (name.eq_ignore_ascii_case(scheme.as_bytes()) && rest.first() == Some(&b' ')).then(|| rest.trim_ascii_start())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{self, Rule},
        request::Host,
    };

    const ALICE: &str = "alice-secret:with:colons";
    const BOB: &str = "bob-secret";

    fn policy(change: impl FnOnce(&mut Config)) -> Policy {
        let token = |user: &str, token: &str| config::Token { user: user.into(), sha256: sha256(token.as_bytes()) };
        let mut config = Config::default();
        config.access.tokens = vec![token("alice", ALICE), token("bob", BOB), token("", "nameless")];
        change(&mut config);
        Policy::new(&config, Vec::new(), None, CancellationToken::new())
    }

    fn head(fields: &[(&'static str, String)]) -> Head {
        let mut head = Head::default();
        for (name, value) in fields {
            head.push(*name, value.clone());
        }
        head
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[track_caller]
    fn assert_refused(refused: &Result<Standing, Refusal>, was_presented: bool) {
        assert!(matches!(refused, Err(Refusal::Unauthenticated { presented }) if *presented == was_presented), "{refused:?}");
    }

    #[test]
    fn a_whole_token_names_its_user() {
        let policy = policy(|_| ());
        for (value, want) in [
            (basic(&format!("alice:{ALICE}")), "alice"),
            (basic("bob:bob-secret"), "bob"),
            (basic(":nameless"), ""),
            (basic("bob:bob-secret").replace("Basic ", "bASIC   "), "bob"),
            (format!("Bearer {BOB}"), "bob"),
            (format!("bearer {ALICE}"), "alice"),
        ] {
            let standing = policy.authenticate(&head(&[("proxy-authorization", value.clone())]), None).unwrap();
            assert_eq!(&*standing.user(), want, "{value}");
        }
    }

    #[test]
    fn anything_less_or_more_than_a_whole_token_is_refused() {
        let policy = policy(|_| ());
        for value in [
            basic(&format!("alice:{BOB}")),
            basic(&format!("bob:{ALICE}")),
            basic("bo:bob-secret"),
            basic("bobb:bob-secret"),
            basic("Bob:bob-secret"),
            basic("bob:bob-secre"),
            basic("bob:bob-secrett"),
            basic("bob:"),
            basic("bob:bob-secret\n"),
            basic("bob"),
            basic(":bob-secret"),
            basic(""),
            basic("nobody:bob-secret"),
            "Basic !!!".into(),
            "Basic".into(),
            "Bearer".into(),
            "Bearer ".into(),
            "Bearer bob-secre".into(),
            "Bearer bob-secret x".into(),
            "Bearerbob-secret".into(),
            "Bearer\tbob-secret".into(),
            "Digest bob-secret".into(),
            "bob-secret".into(),
            format!("Bearer {}", "x".repeat(16_384)),
            String::new(),
        ] {
            assert_refused(&policy.authenticate(&head(&[("proxy-authorization", value)]), None), true);
        }
        assert_refused(&policy.authenticate(&head(&[("authorization", format!("Bearer {BOB}"))]), None), false);
        let twice = ("proxy-authorization", format!("Bearer {BOB}"));
        assert_refused(&policy.authenticate(&head(&[twice.clone(), twice]), None), true);
    }

    #[test]
    fn a_field_of_the_operators_choice_carries_the_bare_token() {
        let policy = policy(|config| config.access.header = "X-Relay-Token".into());
        for value in [BOB.into(), format!("Bearer {BOB}")] {
            assert_eq!(&*policy.authenticate(&head(&[("x-relay-token", value)]), None).unwrap().user(), "bob");
        }
        assert_refused(&policy.authenticate(&head(&[("x-relay-token", basic("bob:bob-secret"))]), None), true);
        assert_refused(&policy.authenticate(&head(&[("x-relay-token", "bob-secre".into())]), None), true);
        assert_refused(&policy.authenticate(&head(&[("proxy-authorization", format!("Bearer {BOB}"))]), None), false);
    }

    #[test]
    fn without_tokens_everybody_is_refused_unless_access_is_open() {
        let closed = policy(|config| config.access.tokens.clear());
        assert_refused(&closed.authenticate(&head(&[("proxy-authorization", format!("Bearer {BOB}"))]), None), true);
        assert_refused(&closed.authenticate(&Head::default(), None), false);
        let open = policy(|config| config.access.open = true);
        assert_eq!(&*open.authenticate(&Head::default(), None).unwrap().user(), "-");
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", policy(|_| ()));
        assert!(shown.contains("alice") && !shown.contains(&format!("{:?}", sha256(BOB.as_bytes()))), "{shown}");
    }

    #[test]
    fn a_permit_is_refused_for_the_first_reason_and_counts_while_it_lives() {
        let policy = policy(|config| {
            let denied = Rule { names: vec!["denied.test".into()], ..Rule::default() };
            config.rules.list = vec![denied];
        });
        let limits = Limits::new(&config::Limits { tunnels: 1, ..Default::default() });
        let permit = |ask| policy.permit(Request { ask }, Standing::Open, &limits);
        let tunnel = |name: &str| Ask::Tunnel(Protocol::Tcp, Target { host: Host::Name(name.into()), port: 443.try_into().unwrap() });

        assert!(matches!(permit(Ask::UnsupportedProtocol("x".into())), Err(Refusal::UnsupportedProtocol(_))));
        assert!(matches!(permit(Ask::UnsupportedMethod("GET".into())), Err(Refusal::UnsupportedMethod(_))));
        assert!(matches!(permit(Ask::UnknownPath), Err(Refusal::UnknownPath)));
        let held = permit(tunnel("x.test")).unwrap();
        assert_eq!((&*held.standing.user(), limits.tunnels()), ("-", 1));
        assert!(matches!(permit(tunnel("denied.test")), Err(Refusal::Denied { .. })), "rules come before caps");
        assert!(matches!(permit(tunnel("x.test")), Err(Refusal::LimitReached { what: "tunnels" })));
        drop(held);
        assert!(permit(tunnel("x.test")).is_ok());
    }
}
