//! A request that is not expected to open a tunnel, and how the relay says no.

use std::time::Duration;

use tokio::time::timeout;

use super::Asking;
use crate::{
    probe::{Answer, ProbeError, StreamEnd},
    proto::head::Head,
};

/// What came of it.
#[derive(Debug)]
pub(in crate::doctor) struct Refusal {
    /// The head of the answer.
    pub(in crate::doctor) answer: Result<Answer, ProbeError>,
    /// How the relay's side ended behind it; none for a tunnel, which ended here.
    pub(in crate::doctor) end: Option<StreamEnd>,
}

impl Refusal {
    /// Whether the relay reacted at all.
    pub(in crate::doctor) fn is_alive(&self) -> bool {
        match &self.answer {
            Ok(_) => true,
            Err(ProbeError::Unanswered(end)) => matches!(end, StreamEnd::Reset(_) | StreamEnd::Stopped(_) | StreamEnd::Finished),
            Err(error) => matches!(error, ProbeError::Violation(_)),
        }
    }
}

impl Asking<'_> {
    /// Sends `head` and waits for the answer, and where that is no tunnel for the end behind it.
    pub(super) async fn refusal(&self, head: &Head) -> Refusal {
        let limit = self.plan.limits.answer;
        let asked = timeout(limit, async {
            let mut exchange = self.client.request(head).await?;
            let answer = exchange.answer().await?;
            Ok((exchange, answer))
        });
        let (mut exchange, answer) = match asked.await.unwrap_or(Err(ProbeError::TimedOut { what: "an answer", after: limit })) {
            Ok(asked) => asked,
            Err(error) => return Refusal { answer: Err(error), end: None },
        };
        if answer.success() {
            // A tunnel that is at once aborted tells it in no time.
            let end = timeout(AT_ONCE, exchange.recv.recv()).await.ok().and_then(Result::err);
            return Refusal { answer: Ok(answer), end };
        }
        let end = timeout(ENDING, exchange.recv.ended()).await.unwrap_or(StreamEnd::TimedOut);
        Refusal { answer: Ok(answer), end: Some(end) }
    }
}

/// Longest wait for the abort of a tunnel.
const AT_ONCE: Duration = Duration::from_millis(200);

/// Longest wait for the end of a refusal: the body is small.
const ENDING: Duration = Duration::from_secs(2);
