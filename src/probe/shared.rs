//! What a client, its tasks and its tunnels know together.

use std::{future::Future, sync::Mutex, time::Duration};

use bytes::Bytes;
use quinn::VarInt;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{Closed, Options, ProbeError, StreamEnd, Violation, datagrams::Routes};
use crate::proto::settings::{H3_DATAGRAM, Settings};

/// One connection, seen from all sides.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) connection: quinn::Connection,
    pub(super) options: Options,
    pub(super) state: watch::Sender<State>,
    pub(super) routes: Mutex<Routes>,
}

/// What the relay has said on its control stream, and how we took it.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) settings: Option<Settings>,
    pub(super) settings_at: Option<Instant>,
    pub(super) goaways: Vec<u64>,
    pub(super) violation: Option<Violation>,
    /// Whether we have announced SETTINGS_H3_DATAGRAM = 1.
    pub(super) announced_datagrams: bool,
}

impl Shared {
    /// The relay broke `rule`: the connection ends with `code`, and the first rule broken is the one that is told.
    pub(super) fn violated(&self, code: u64, rule: impl Into<String>) -> Violation {
        let violation = Violation { rule: rule.into(), code };
        self.state.send_modify(|state| {
            state.violation.get_or_insert_with(|| violation.clone());
        });
        self.connection.close(varint(code), violation.rule.as_bytes());
        violation
    }

    /// How the connection ended, once it has.
    pub(super) fn lost(&self, error: &quinn::ConnectionError) -> StreamEnd {
        match self.state.borrow().violation.clone() {
            Some(violation) => StreamEnd::Violation(violation),
            None => StreamEnd::Lost(Closed::from(error)),
        }
    }

    /// The same, as the failure of something asked.
    pub(super) fn over(&self, error: &quinn::ConnectionError) -> ProbeError {
        match self.lost(error) {
            StreamEnd::Violation(violation) => ProbeError::Violation(violation),
            _ => ProbeError::Closed(Closed::from(error)),
        }
    }

    /// Waits until `ready` finds something in the state, the connection is over, or the time is.
    pub(super) async fn wait_for<T>(
        &self,
        what: &'static str,
        limit: Option<Duration>,
        mut ready: impl FnMut(&State) -> Option<T>,
    ) -> Result<T, ProbeError> {
        let mut state = self.state.subscribe();
        let found = async {
            let state = state.wait_for(|state| ready(state).is_some()).await.expect("self holds the sender");
            ready(&state).expect("just seen, and the state is locked")
        };
        let wait = async {
            tokio::select! {
                biased;
                found = found => Ok(found),
                error = self.connection.closed() => Err(self.over(&error)),
            }
        };
        within(limit, wait).await.unwrap_or_else(|after| Err(ProbeError::TimedOut { what, after }))
    }

    /// Whether both sides have announced SETTINGS_H3_DATAGRAM (RFC 9297 §2.1.1) and the relay takes DATAGRAM frames.
    pub(super) fn carries_datagrams(&self) -> bool {
        let state = self.state.borrow();
        state.announced_datagrams
            && state.settings.as_ref().is_some_and(|settings| settings.get(H3_DATAGRAM) == Some(1))
            && self.connection.max_datagram_size().is_some()
    }

    /// Sends one QUIC datagram, whatever it holds.
    pub(super) fn send_datagram(&self, datagram: Bytes) -> Result<(), ProbeError> {
        let size = datagram.len();
        self.connection.send_datagram(datagram).map_err(|error| match error {
            quinn::SendDatagramError::TooLarge => {
                ProbeError::TooLarge { size, most: self.connection.max_datagram_size().unwrap_or_default() }
            }
            quinn::SendDatagramError::UnsupportedByPeer => ProbeError::Unsupported("max_datagram_frame_size"),
            quinn::SendDatagramError::Disabled => ProbeError::Options("DATAGRAM frames: they are switched off here"),
            quinn::SendDatagramError::ConnectionLost(error) => self.over(&error),
        })
    }
}

/// `future`, for at most `limit`; `Err` gives the limit back.
pub(super) async fn within<T>(limit: Option<Duration>, future: impl Future<Output = T>) -> Result<T, Duration> {
    match limit {
        Some(limit) => timeout(limit, future).await.map_err(|_| limit),
        None => Ok(future.await),
    }
}

/// A code for the wire; one too large for it goes out as the largest.
pub(super) fn varint(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}
