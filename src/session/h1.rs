//! One client's HTTP/1.1 connection, after its TLS handshake: one request, CONNECT or `Upgrade: connect-udp` (RFC 9298 §3.2), and then its tunnel.
//!
//! A connection carries one request, whatever comes of it. What a client sends behind a request that is refused was meant for the tunnel it did not
//! get, and must not be taken for another request (C-17, RFC 9931).

mod exchange;
mod halves;
mod head;

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::{Client, Worker, summary, tcp::Accepted};
use crate::diagnosis::{By, Close};
use exchange::H1Exchange;
use head::Read;

/// Why a connection ends that has carried its request.
const OVER: &str = "its one request is over";

/// Serves one connection to its end.
pub(super) async fn serve(accepted: Accepted, worker: Arc<Worker>) {
    let Accepted { stream, outbox, address, unauthenticated, record, shown, deadline } = accepted;
    let _open = worker.metrics.connection_open();
    let (mut read, write) = tokio::io::split(stream);
    let deadline = deadline.min(Instant::now() + worker.config.timeouts.head);
    let head = tokio::select! {
        head = head::read(&mut read) => head,
        () = sleep_until(deadline) => Read::Nothing("no request in time".into()),
        () = worker.draining.cancelled() => Read::Nothing("the relay is drained".into()),
    };
    let client = Client { address, http: "h1", full: false, log: Arc::clone(record.log()), shown };
    record.log().opened(0);
    match head {
        Read::Whole { head, left } => {
            let exchange = H1Exchange::new(head, (read, left), write, outbox, worker.config.timeouts.capsule_stall);
            super::serve(exchange, client, &worker, |_| drop(unauthenticated)).await;
        }
        Read::Refused(refusal) => {
            let exchange = H1Exchange::refusing(read, write, outbox);
            super::refuse(exchange, client, &refusal, &worker).await;
        }
        Read::Nothing(why) => return summary::handshake_failed("h1", record, &why, Close::silent(By::Relay, &*why)),
    }
    summary::connection_closed("h1", record, 1, OVER, Close::silent(By::Relay, OVER));
}
