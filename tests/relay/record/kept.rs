//! How much is kept: bounds, privacy, the file.

use std::{fs, os::unix::fs::PermissionsExt};

use masque_relay::{config::Privacy, diagnosis::Record, probe::Http, proto::codes::h3};

use super::over;
use crate::support::{
    Relay,
    request::{ask, tcp},
    tcp::TcpEcho,
};

#[tokio::test]
async fn a_record_keeps_the_first_and_the_last_of_many_requests() {
    let relay = Relay::spawn(|_| {}).await;
    let client = relay.client().await;
    for number in 0..200 {
        let mut fields = tcp(&client, "nowhere.test:80");
        // No two alike, and each as large as may be.
        fields.extend((0..40).map(|field| (format!("x-{number}-{field}-{}", "long".repeat(20)), "y".repeat(100))));
        ask(&client, &fields).await.tcp().await.unwrap_err();
    }
    client.close(h3::NO_ERROR, b"");
    let record = relay.recorded("the end", over).await;
    assert!(record.cut && record.left_out > 100 && record.requests_in_all == Some(200), "{} left out", record.left_out);
    let streams: Vec<_> = record.requests.iter().map(|request| request.stream.unwrap()).collect();
    assert_eq!((streams[0], *streams.last().unwrap()), (0, 199 * 4), "{streams:?}");
    assert!(streams.is_sorted() && streams.len() < 30, "{streams:?}");
    // What rules something out must have been seen whole.
    assert!(record.findings().iter().any(|finding| finding.seen.contains("cut")));
    relay.finish().await;
}

#[tokio::test]
async fn of_a_target_as_much_is_kept_as_privacy_says() {
    for (privacy, want) in
        [(Privacy::Full, Some("secret.part.example.test:80")), (Privacy::Domain, Some("…example.test:80")), (Privacy::None, None)]
    {
        let relay = Relay::spawn(|config| config.log.privacy = privacy).await;
        for http in [Http::H2, Http::H3] {
            let client = relay.client_over(http).await;
            client.connect_tcp("secret.part.example.test:80").await.unwrap_err();
            client.close(h3::NO_ERROR, b"");
            let version = if http == Http::H3 { 3 } else { 2 };
            let record = relay.recorded("the end", |record| over(record) && record.http == Some(version)).await;
            assert_eq!(record.requests[0].target.as_deref(), want, "{privacy:?}");
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(text.contains("secret.part"), privacy == Privacy::Full, "{text}");
        }
        relay.finish().await;
    }
}

#[tokio::test]
async fn the_file_has_a_line_for_each_and_explain_reads_it() {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("records.jsonl");
    let relay = Relay::spawn(|config| config.log.records = Some(file.clone())).await;
    let echo = TcpEcho::start().await;
    let mut ports = Vec::new();
    for http in [Http::H1, Http::H2, Http::H3] {
        let client = relay.client_over(http).await;
        client.connect_tcp(&echo.address().to_string()).await.unwrap();
        ports.push(client.local_addr().unwrap().port());
        client.close(h3::NO_ERROR, b"");
    }
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    relay.finish().await;
    let read = masque_relay::explain::records::read(fs::File::open(&file).unwrap()).unwrap();
    assert_eq!(read.unreadable, 0, "{:?}", read.first_unreadable);
    let mut seen: Vec<_> = read.kept.iter().map(|record: &Record| record.client.port()).collect();
    ports.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, ports);
    assert!(read.kept.iter().all(|record| over(record) && record.requests[0].succeeded()));
}
