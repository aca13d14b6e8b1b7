use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
};

use super::*;
use crate::{
    config::Privacy,
    diagnosis::{By, Close},
    metrics::Snapshot,
    record::Records,
};

fn subject() -> (Subject, Arc<Records>) {
    let notes = Records::notes();
    let records = Arc::new(Records::new(0, 1, Privacy::Full, "proxy-authorization", None, notes.clone()));
    let subject = Subject {
        listen: Vec::new(),
        counters: Box::new(Snapshot::default),
        records: vec![Arc::clone(&records)],
        notes,
        faults: Arc::default(),
        may_misbehave: false,
        draining: CancellationToken::new(),
    };
    (subject, records)
}

#[tokio::test]
async fn a_slow_follower_holds_up_nobody_and_is_told_what_it_missed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let (subject, records) = subject();
    let notes = subject.notes.clone();
    let admin = Admin::start(&path, subject).unwrap();
    let mut follower = UnixStream::connect(&path).unwrap();
    follower.write_all(b"{\"ask\":\"follow\"}\n").unwrap();
    let mut ticks = interval(Duration::from_millis(1));
    while notes.receiver_count() == 0 {
        ticks.tick().await;
    }
    // More than the socket and the queue have room for, while it does not read.
    let count = 10_000;
    for _ in 0..count {
        let close = Close { by: By::Client, layer: None, code: None, reason: String::new() };
        records.begin(([192, 0, 2, 1], 1).into()).end(close, false);
    }
    let (mut told, mut missed) = (0, 0);
    for line in BufReader::new(&follower).lines() {
        match serde_json::from_str(&line.unwrap()).unwrap() {
            Answer::Missed(more) => missed += more,
            Answer::Opened(_) | Answer::Closed(_) => told += 1,
            other => panic!("{other:?}"),
        }
        if told + missed == count * 2 {
            break;
        }
    }
    assert!(missed > 0, "{told} were told");
    drop(follower);
    drop(admin);
    assert!(!path.exists());
}

#[test]
fn questions_and_answers_are_lines_of_json() {
    for (ask, text) in [
        (Ask::Health, r#"{"ask":"health"}"#),
        (Ask::Metrics { text: true }, r#"{"ask":"metrics","text":true}"#),
        (Ask::Session { id: "0.17".into() }, r#"{"ask":"session","id":"0.17"}"#),
        (Ask::Follow { id: None }, r#"{"ask":"follow","id":null}"#),
    ] {
        assert_eq!(serde_json::to_string(&ask).unwrap(), text);
    }
    assert_eq!(serde_json::from_str::<Ask>(r#"{"ask":"metrics"}"#).unwrap(), Ask::Metrics { text: false });
    assert_eq!(serde_json::from_str::<Ask>(r#"{"ask":"follow"}"#).unwrap(), Ask::Follow { id: None });
    assert_eq!(line(&Answer::End), b"\"end\"\n");
    assert_eq!(line(&Answer::Missed(3)), b"{\"missed\":3}\n");
}
