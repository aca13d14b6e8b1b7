//! The relay's records decide why a client broke off: for each hypothesis a client behaves so, and record and log together say so.

use std::time::Duration;

use masque_relay::{
    diagnosis::{
        Certainty, Record,
        hypotheses::{Hypothesis, Standing, Weighed},
    },
    explain::explain,
    fault::Fault,
    probe,
    proto::{codes::h3, frame},
};

use super::over;
use crate::support::{Relay, dns::Reply, tcp::TcpEcho};

/// A Mac's log of an attempt that broke off right behind the handshake.
const LOG: &str = include_str!("../../logs/macos-abort.log");

/// The same attempt, as the client of this record would have logged it.
fn log_of(record: &Record) -> String {
    LOG.replace("192.168.4.139:53898", &record.client.to_string())
        .replace("bytes in/out: 2880/4322", &format!("bytes in/out: {}/{}", record.bytes_out, record.bytes_in))
}

/// What the log and the records say together of the connection that one of them tells of.
fn weighed(record: &Record, records: &[Record]) -> Vec<Weighed> {
    let mut explanation = explain(log_of(record).as_bytes(), Some(records)).unwrap();
    assert_eq!(explanation.attempts.len(), 1);
    let attempt = explanation.attempts.remove(0);
    let joined = attempt.joined.expect("the record belongs to the attempt");
    assert_eq!((records[joined.record].client, joined.certainty), (record.client, Certainty::Certain), "{:?}", joined.by);
    attempt.hypotheses
}

fn standing(all: &[Weighed], hypothesis: Hypothesis) -> Standing {
    all.iter().find(|weighed| weighed.hypothesis == hypothesis).expect("each is weighed").standing
}

/// This one is the first, and no other stands as surely.
#[track_caller]
fn assert_decided(all: &[Weighed], hypothesis: Hypothesis, certainty: Certainty) {
    assert_eq!((all[0].hypothesis, all[0].standing), (hypothesis, Standing::Stands(certainty)), "{all:#?}");
    assert!(all[1..].iter().all(|other| other.standing != Standing::Stands(certainty)), "{all:#?}");
}

#[tokio::test]
async fn h1_a_transport_rule() {
    let relay = Relay::spawn(|_| {}).await;
    let mut options = relay.options();
    options.refuse_parameters = true;
    probe::Client::open(options).await.unwrap_err();
    let record = relay.recorded("the client's close", over).await;
    let trouble = record.trouble().unwrap();
    assert!(trouble.seen.contains("0x8 (TRANSPORT_PARAMETER_ERROR), reason `the probe was told to"), "{trouble:?}");
    let all = weighed(&record, &relay.records());
    assert_decided(&all, Hypothesis::H1, Certainty::Certain);
    relay.finish().await;
}

#[tokio::test]
async fn h2_a_critical_stream() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    relay.recorded("the client's SETTINGS", |record| record.settings_received_ms.is_some()).await;
    client.close(h3::CLOSED_CRITICAL_STREAM, b"control stream closed");
    let record = relay.recorded("the client's close", over).await;
    assert!(record.trouble().unwrap().means.contains("saw a control or QPACK stream end"));
    let all = weighed(&record, &relay.records());
    assert_decided(&all, Hypothesis::H2, Certainty::Certain);
    assert_eq!(standing(&all, Hypothesis::H3), Standing::RuledOut);
    relay.finish().await;
}

#[tokio::test]
async fn h3_a_connect_without_a_status() {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("records.jsonl");
    let mut relay = Relay::spawn(|config| config.log.records = Some(file.clone())).await;
    // Nobody answers for this name, and the relay stops meanwhile: there is no status to give any more.
    relay.dns.always("silent.test", &Reply::Silence);
    let client = relay.client().await;
    let asked = client.request(&client.options().tcp_head("silent.test:80")).await.unwrap();
    relay.dns.asked("silent.test", 1).await;
    relay.take_server().drain(Duration::ZERO).await;
    drop(asked);
    let records = masque_relay::explain::records::read(std::fs::File::open(&file).unwrap()).unwrap().kept;
    let [record] = &records[..] else { panic!("{records:#?}") };
    let [request] = &record.requests[..] else { panic!("{record:#?}") };
    assert!(request.is_plain_connect() && request.status.is_none());
    assert_eq!(request.reset, Some(h3::REQUEST_CANCELLED), "{request:#?}");
    let all = weighed(record, &records);
    assert_decided(&all, Hypothesis::H3, Certainty::Likely);
    assert_eq!(standing(&all, Hypothesis::H4), Standing::RuledOut);
    relay.finish().await;
}

/// The record of a client that asked a relay with this fault for a plain CONNECT, as this user or as nobody, and then broke off.
async fn broken_off(fault: Fault, known: bool) -> (Record, Vec<Record>) {
    let relay = Relay::spawn(|config| {
        config.fault.allow = true;
        config.fault.on = vec![fault];
    })
    .await;
    let echo = TcpEcho::start().await;
    let client = if known { relay.client().await } else { relay.open(relay.stranger()).await };
    client.connect_tcp(&echo.address().to_string()).await.unwrap_err();
    relay.recorded("the reset", |record| record.requests.iter().any(|request| request.reset.is_some())).await;
    client.close(h3::NO_ERROR, b"");
    let record = relay.recorded("the client's close", over).await;
    let records = relay.records();
    relay.finish().await;
    (record, records)
}

#[tokio::test]
async fn h3_a_connect_that_is_reset() {
    let (record, records) = broken_off(Fault::ConnectReset, true).await;
    let [request] = &record.requests[..] else { panic!("{record:#?}") };
    assert!(request.is_plain_connect() && request.status.is_none());
    assert_eq!(request.reset, Some(h3::MESSAGE_ERROR), "{request:#?}");
    let all = weighed(&record, &records);
    assert_decided(&all, Hypothesis::H3, Certainty::Likely);
    assert_eq!(all[0].speaks_for.last().unwrap(), "relay's record: it reset a plain CONNECT with 0x10e (H3_MESSAGE_ERROR)");
    for ruled_out in [Hypothesis::H2, Hypothesis::H4] {
        assert_eq!(standing(&all, ruled_out), Standing::RuledOut, "{all:#?}");
    }
}

#[tokio::test]
async fn h4_a_refusal_and_a_reset_of_its_stream() {
    let (record, records) = broken_off(Fault::AbortAfterResponse, false).await;
    let [request] = &record.requests[..] else { panic!("{record:#?}") };
    assert_eq!((request.status, request.reset), (Some(407), Some(h3::REQUEST_CANCELLED)), "{request:#?}");
    let aborted = "CONNECT was answered 407, and the relay reset the stream with 0x10c (H3_REQUEST_CANCELLED)";
    assert!(record.findings().iter().any(|finding| finding.seen == aborted), "{:#?}", record.findings());
    let all = weighed(&record, &records);
    assert_decided(&all, Hypothesis::H4, Certainty::Likely);
    assert_eq!(all[0].speaks_for.last().unwrap(), "relay's record: and its stream was reset");
    for ruled_out in [Hypothesis::H2, Hypothesis::H3] {
        assert_eq!(standing(&all, ruled_out), Standing::RuledOut, "{all:#?}");
    }
}

#[tokio::test]
async fn h4_a_refusal_and_an_abort_in_one_flight() {
    let relay = Relay::spawn(|_| {}).await;
    // A request that is refused, and with it a frame for which the connection must end. Which of the two the relay sees first, and how fast it is,
    // is the machine's to say: once in a while the answer and the close leave within a millisecond.
    for attempt in 0..200 {
        let client = relay.open(relay.stranger()).await;
        let port = client.local_addr().unwrap().port();
        relay.recorded("the client's SETTINGS", |record| record.client.port() == port && record.settings_received_ms.is_some()).await;
        let asked = client.request(&client.options().tcp_head("example.test:80")).await.unwrap();
        client.control().write(&frame::encode(frame::DATA, b"x")).await.ok();
        let record = relay.recorded("the relay's close", |record| record.client.port() == port && over(record)).await;
        drop(asked);
        let refused = record.requests.iter().find(|request| request.status == Some(407));
        if refused.and_then(|request| record.closed_behind(request)).is_none() {
            println!("attempt {attempt} was not in one flight");
            continue;
        }
        assert!(record.findings().iter().any(|finding| finding.seen.contains("and the relay closed the connection")), "{record:#?}");
        let all = weighed(&record, &relay.records());
        assert_decided(&all, Hypothesis::H4, Certainty::Likely);
        assert_eq!(standing(&all, Hypothesis::H3), Standing::RuledOut);
        return relay.finish().await;
    }
    panic!("an answer and a close never left within a millisecond");
}

#[tokio::test]
async fn h6_another_leg_won() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = TcpEcho::start().await;
    let (winner, loser) = (relay.client().await, relay.client().await);
    winner.connect_tcp(&echo.address().to_string()).await.unwrap();
    let port = loser.local_addr().unwrap().port();
    relay.recorded("the loser's SETTINGS", |record| record.client.port() == port && record.settings_received_ms.is_some()).await;
    loser.close(h3::NO_ERROR, b"");
    let record = relay.recorded("the loser's end", |record| record.client.port() == port && over(record)).await;
    let all = weighed(&record, &relay.records());
    assert_decided(&all, Hypothesis::H6, Certainty::Likely);
    for ruled_out in [Hypothesis::H2, Hypothesis::H3, Hypothesis::H4] {
        assert_eq!(standing(&all, ruled_out), Standing::RuledOut, "{all:#?}");
    }
    // Without the winner nothing says so.
    let alone = weighed(&record, std::slice::from_ref(&record));
    assert_eq!(standing(&alone, Hypothesis::H6), Standing::Stands(Certainty::Possible));
    relay.finish().await;
}
