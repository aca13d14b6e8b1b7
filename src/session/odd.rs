//! Answers that no relay in its right mind gives: the faults of a request, whatever the HTTP version.

use bytes::Bytes;
use http::StatusCode;

use super::{Exchange, Line, Worker};
use crate::{
    ended::{Ended, Reset},
    fault::{Fault, Faults},
    proto::head::Head,
    refusal::Refusal,
};

/// A request that is not looked at further.
pub(super) enum Odd {
    /// Reset without an answer.
    Reset,
    /// Refused for no reason.
    Refused(Refusal),
}

impl Odd {
    /// What becomes of this request instead; `None` in a healthy relay.
    pub(super) fn of(head: &Head, faults: &Faults) -> Option<Self> {
        if faults.on(Fault::ConnectReset) && is_classic_connect(head) {
            return Some(Self::Reset);
        }
        let (code, named) = faults.status()?;
        let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Some(Self::Refused(Refusal::Misbehaved { status, bare: !named }))
    }

    pub(super) async fn answer<E: Exchange>(self, exchange: E, line: &Line, worker: &Worker) {
        match self {
            Self::Reset => {
                line.abandoned(&Ended::Misbehaved(Fault::ConnectReset.name()), worker);
                exchange.abort(None, Reset::Message).await;
            }
            Self::Refused(refusal) => {
                line.refused(&refusal, None, worker);
                refuse(exchange, &refusal, worker).await;
            }
        }
    }
}

/// A no; politely, in a healthy relay.
pub(super) async fn refuse<E: Exchange>(exchange: E, refusal: &Refusal, worker: &Worker) {
    let answer = refusal.head(&worker.config.name);
    if worker.faults.on(Fault::AbortAfterResponse) {
        return exchange.abort(Some(answer), Reset::Cancelled).await;
    }
    exchange.refuse(answer).await;
}

/// A yes, and the end of it.
pub(super) async fn abort<E: Exchange>(exchange: E, answer: Head, line: &Line, worker: &Worker) {
    line.abandoned(&Ended::Misbehaved(Fault::AbortAfterResponse.name()), worker);
    exchange.abort(Some(answer), Reset::Cancelled).await;
}

/// The field that an Apple client compares byte for byte.
pub(super) fn capsule_protocol(answer: &mut Head, faults: &Faults) {
    let is_field = |name: &[u8]| name == b"capsule-protocol";
    if faults.on(Fault::NoCapsuleProtocol) {
        answer.fields.retain(|(name, _)| !is_field(name));
    }
    if faults.on(Fault::CapsuleProtocolParameter)
        && let Some((_, value)) = answer.fields.iter_mut().find(|(name, _)| is_field(name))
    {
        *value = Bytes::from_static(b"?1;fault");
    }
}

fn is_classic_connect(head: &Head) -> bool {
    head.get(":method").is_some_and(|method| method[..] == b"CONNECT"[..]) && head.get(":protocol").is_none()
}
