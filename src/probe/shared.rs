//! What a client, its tasks and its tunnels know together, whatever the HTTP version.

use std::{future::Future, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{Closed, CriticalEnd, Options, ProbeError, StreamEnd, Violation};
use crate::proto::settings::Settings;

/// One connection, seen from all sides.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) state: watch::Sender<State>,
}

/// What the relay has said about the connection, and how we took it.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) settings: Option<Settings>,
    pub(super) settings_at: Option<Instant>,
    pub(super) goaways: Vec<u64>,
    /// What the last GOAWAY of HTTP/2 said beside its stream: HTTP/3's says nothing more.
    pub(super) farewell: Option<Closed>,
    pub(super) violations: Vec<Violation>,
    pub(super) critical: Vec<CriticalEnd>,
    pub(super) closed: Option<Closed>,
    /// Whether we have announced SETTINGS_H3_DATAGRAM = 1.
    pub(super) announced_datagrams: bool,
}

impl Shared {
    pub(super) fn new(options: Options) -> Self {
        Self { options, state: watch::Sender::default() }
    }

    /// The relay broke `rule`, and is told `code`. The first rule broken is the one that counts.
    pub(super) fn note_violation(&self, code: u64, rule: impl Into<String>) -> Violation {
        let violation = Violation { rule: rule.into(), code };
        self.state.send_modify(|state| {
            if state.violations.len() < VIOLATIONS_KEPT {
                state.violations.push(violation.clone());
            }
        });
        violation
    }

    /// The connection is over. The first end is the one that counts.
    pub(super) fn note_closed(&self, closed: Closed) {
        self.state.send_modify(|state| {
            state.closed.get_or_insert(closed);
        });
    }

    /// How the connection ended: `seen` is what the asker knows of it.
    pub(super) fn lost(&self, seen: impl Into<Closed>) -> StreamEnd {
        let state = self.state.borrow();
        match state.violations.first().filter(|_| !self.options.forgiving) {
            Some(violation) => StreamEnd::Violation(violation.clone()),
            None => StreamEnd::Lost(state.closed.clone().unwrap_or_else(|| seen.into())),
        }
    }

    /// The same, as the failure of something asked.
    pub(super) fn over(&self, seen: impl Into<Closed>) -> ProbeError {
        self.lost(seen).into()
    }

    /// Waits until `ready` finds something in the state, the connection is over, or the time is.
    pub(super) async fn wait_for<T>(
        &self,
        what: &'static str,
        limit: Option<Duration>,
        mut ready: impl FnMut(&State) -> Option<T>,
    ) -> Result<T, ProbeError> {
        let mut state = self.state.subscribe();
        let wait = async {
            let seen = state.wait_for(|state| ready(state).is_some() || state.closed.is_some()).await.expect("self holds the sender");
            let (found, closed) = (ready(&seen), seen.closed.clone());
            drop(seen);
            found.ok_or(closed)
        };
        match within(limit, wait).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(closed)) => Err(self.over(closed.expect("one of the two was there"))),
            Err(after) => Err(ProbeError::TimedOut { what, after }),
        }
    }
}

/// `future`, for at most `limit`; `Err` gives the limit back.
pub(super) async fn within<T>(limit: Option<Duration>, future: impl Future<Output = T>) -> Result<T, Duration> {
    match limit {
        Some(limit) => timeout(limit, future).await.map_err(|_| limit),
        None => Ok(future.await),
    }
}

/// A relay that breaks more rules than this has been heard enough.
const VIOLATIONS_KEPT: usize = 16;
