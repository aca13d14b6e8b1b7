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

    /// After how long it is lost by itself; `None`: never, or it is already.
    pub fn lasts(&self, now: SystemTime) -> Option<Duration> {
        match self {
            Self::Open | Self::Token(_) => None,
            Self::Certificate(shown) => shown.lasts(now),
        }
    }

    /// Whether `policy` would not let it in: its token is gone, its certificate is revoked, over, or of a CA that no longer counts.
    pub fn is_lost(&self, policy: &Policy, now: SystemTime) -> bool {
        !policy.open
            && match self {
                Self::Open => true,
                Self::Token(token) => !policy.tokens.contains(token),
                Self::Certificate(shown) => policy.complaint(shown, now).is_some(),
            }
    }
}
