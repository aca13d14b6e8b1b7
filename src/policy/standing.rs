//! By what somebody was let in, and whether it counts still.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{Policy, Token};
use crate::certs::client::Shown;

/// Who a client is, and by what the relay knows.
#[derive(Clone, Debug)]
pub enum Standing {
    /// Nobody was asked: access is open.
    Open,
    /// A token.
    Token(Arc<Token>),
    /// A certificate of a client.
    Certificate(Arc<Shown>),
}

impl Standing {
    /// The user's name; `-` where access is open.
    pub fn user(&self) -> Arc<str> {
        match self {
            Self::Open => "-".into(),
            Self::Token(token) => Arc::clone(&token.user),
            Self::Certificate(shown) => Arc::clone(&shown.user),
        }
    }

    /// Whether `policy` would let it in at this moment, and for how long.
    pub fn counts(&self, policy: &Policy, now: SystemTime) -> Counts {
        let lost = match self {
            _ if policy.open => false,
            Self::Open => true,
            Self::Token(token) => !policy.tokens.contains(token),
            Self::Certificate(shown) => policy.complaint(shown, now).is_some(),
        };
        match self.lasts(now) {
            _ if lost => Counts::No,
            Some(left) => Counts::For(left),
            None => Counts::Always,
        }
    }

    /// After how long its certificate, or one of those that vouch for it, is over; `None`: no time ends it.
    pub fn lasts(&self, now: SystemTime) -> Option<Duration> {
        match self {
            Self::Open | Self::Token(_) => None,
            Self::Certificate(shown) => shown.lasts(now),
        }
    }

    /// Whether both are the same credential.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Open, Self::Open) => true,
            (Self::Token(one), Self::Token(other)) => one == other,
            (Self::Certificate(one), Self::Certificate(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// How long a [`Standing`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// Not any more: the token is gone, the certificate is revoked, over, or of a CA that does not count.
    No,
    /// So long; then it is to be asked again.
    For(Duration),
    /// Until another policy does.
    Always,
}
