//! What can happen on a connection.

use std::{net::SocketAddr, sync::Arc};

use crate::diagnosis::{
    By,
    record::{Act, Totals},
};

/// Something that happened.
#[derive(Debug)]
pub(super) struct Event {
    /// Microseconds since the connection began.
    pub(super) at: u64,
    /// The request's stream; 0 for what concerns none.
    pub(super) stream: u64,
    pub(super) what: What,
}

/// What happened. Large parts are boxed: most events have none.
#[derive(Debug)]
pub enum What {
    /// A request stream was opened.
    Opened,
    /// Its head is whole.
    Head {
        /// As `head::shown` writes it.
        text: Arc<str>,
        /// It shares its text with no other.
        fresh: bool,
    },
    /// The client is known, and what it wants.
    Asked(Box<Asked>),
    /// It was answered with yes.
    Accepted {
        /// The status.
        status: u16,
    },
    /// It was answered with no.
    Refused(Box<Refused>),
    /// A direction of its stream ended.
    End {
        /// Who ended it.
        by: By,
        /// How.
        act: Act,
        /// The code, where the act has one.
        code: Option<u64>,
    },
    /// The request is over.
    Ended(Box<Ended>),
    /// The client's address is another.
    Moved(Box<SocketAddr>),
    /// A critical stream ended.
    Critical(Box<Critical>),
}

/// Who asks, and for what.
#[derive(Debug)]
pub struct Asked {
    /// The user.
    pub user: Arc<str>,
    /// As far as privacy lets it be written down; empty for none.
    pub target: Box<str>,
}

/// A no.
#[derive(Debug)]
pub struct Refused {
    /// The status.
    pub status: u16,
    /// The error type of Proxy-Status.
    pub error: &'static str,
    /// Why, in words.
    pub why: Box<str>,
}

/// The end of a request.
#[derive(Debug)]
pub struct Ended {
    /// Why, in words.
    pub why: Box<str>,
    /// What its tunnel carried, if there was one.
    pub carried: Option<Totals>,
}

/// The end of a critical stream.
#[derive(Debug)]
pub struct Critical {
    /// Who ended it.
    pub by: By,
    /// How.
    pub act: Act,
    /// `control`, `encoder`, `decoder`.
    pub stream: &'static str,
}

/// What a block of memory costs beside what it holds.
const BLOCK: usize = 16;

impl Event {
    /// The memory it takes.
    pub(super) fn size(&self) -> usize {
        let boxed = match &self.what {
            What::Opened | What::Accepted { .. } | What::End { .. } | What::Head { fresh: false, .. } => 0,
            // Beside the text, its two counts.
            What::Head { text, .. } => BLOCK + 16 + text.len(),
            What::Asked(asked) => BLOCK * 2 + size_of::<Asked>() + asked.target.len(),
            What::Refused(refused) => BLOCK * 2 + size_of::<Refused>() + refused.why.len(),
            What::Ended(ended) => BLOCK * 2 + size_of::<Ended>() + ended.why.len(),
            What::Moved(_) => BLOCK + size_of::<SocketAddr>(),
            What::Critical(_) => BLOCK + size_of::<Critical>(),
        };
        size_of::<Self>() + boxed
    }
}
