//! Credentials are nowhere in what the relay writes: log, file, admin answers. What commands print of them is in tests/cli.

use base64::{Engine, engine::general_purpose::STANDARD};
use masque_relay::{
    admin::{Ask, client::Client as Asker},
    config::Admin,
    explain::explain,
    probe::Http,
    proto::codes::h3,
};

use super::over;
use crate::support::{
    Relay, TOKEN, USER,
    request::{ask, set, tcp},
    tcp::TcpEcho,
    token,
};

/// In another field, of which the relay knows nothing.
const OTHER: &str = "key-that-no-file-may-hold";

#[tokio::test]
async fn credentials_are_in_nothing_that_is_written() {
    for header in ["proxy-authorization", "user-agent"] {
        let files = tempfile::tempdir().unwrap();
        let (file, socket) = (files.path().join("records.jsonl"), files.path().join("admin.sock"));
        let secret = format!("a-token-for-{header}");
        let relay = Relay::spawn(|config| {
            config.log.records = Some(file.clone());
            config.admin = Admin::At(socket.clone());
            config.access.header = header.into();
            config.access.tokens = vec![token(USER, TOKEN), token(USER, &secret)];
        })
        .await;
        let echo = TcpEcho::start().await;
        let target = echo.address().to_string();
        for http in [Http::H1, Http::H2, Http::H3] {
            let client = relay.client_over(http).await;
            let mut right = tcp(&client, &target);
            right.retain(|field| field.0 != "proxy-authorization");
            if header == "proxy-authorization" {
                right.push((header.into(), format!("Bearer {secret}")));
            } else {
                right.push((header.into(), secret.clone()));
            }
            right.push(("x-api-key".into(), OTHER.into()));
            let opened = ask(&client, &right).await.tcp().await.unwrap();
            drop(opened);
            // What is refused, and what is malformed, has a credential too.
            let wrong = set(right, ":authority", "no-port-here");
            drop(ask(&relay.client_over(http).await, &wrong).await.tcp().await);
            client.close(h3::NO_ERROR, b"");
            let version = match http {
                Http::H1 => 1,
                Http::H2 => 2,
                Http::H3 => 3,
            };
            relay.recorded("the end", |record| over(record) && record.http == Some(version)).await;
        }
        let mut written = vec![relay.log().join("\n")];
        let answers = tokio::task::spawn_blocking(move || {
            let mut asker = Asker::connect(&socket).unwrap();
            let mut asks = vec![Ask::Health, Ask::Metrics { text: false }, Ask::Metrics { text: true }, Ask::Sessions];
            asks.extend((1..=6).map(|number| Ask::Session { id: format!("0.{number}") }));
            asks.iter().map(|ask| format!("{:?}", asker.ask(ask).unwrap().collect::<Result<Vec<_>, _>>())).collect::<Vec<_>>()
        });
        written.extend(answers.await.unwrap());
        let records = relay.records();
        for record in &records {
            written.push(format!("{record:?} {:?} {:?}", record.timeline(), record.findings()));
        }
        let log = include_str!("../../logs/macos-abort.log");
        written.push(format!("{:?}", explain(log.as_bytes(), Some(&records)).unwrap()));
        relay.finish().await;
        written.push(std::fs::read_to_string(&file).unwrap());

        let basic = STANDARD.encode(format!("{USER}:{secret}"));
        let all = written.join("\n");
        assert!(all.len() > 10_000 && all.contains("x-api-key") && all.contains(header), "nothing was written:\n{all}");
        for needle in [secret.as_str(), &STANDARD.encode(&secret), &basic, OTHER] {
            assert!(!all.contains(needle), "{needle} in\n{all}");
        }
    }
}
