//! The qlog file of a connection, found from its record.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use masque_relay::{config::memory, probe::Http, proto::codes::h3};
use serde_json::Value;

use super::over;
use crate::support::{
    Relay,
    tcp::TcpEcho,
    tunnels::{assert_echoes, open_tcp},
};

/// The files there, by name.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort_unstable();
    files
}

/// The records of a JSON text sequence (RFC 7464), every one whole.
fn records(file: &Path) -> Vec<Value> {
    let lines = BufReader::new(File::open(file).unwrap()).lines().map(Result::unwrap);
    // What is stated of the memory a connection takes for them.
    let lines = lines.inspect(|line| assert!((line.len() as u64) < memory::QLOG_LINE, "{line}"));
    lines.map(|line| serde_json::from_str(line.strip_prefix('\x1e').expect("a record separator")).expect("JSON")).collect()
}

#[tokio::test]
async fn an_http3_connection_has_a_qlog_file_that_its_record_names() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("qlog");
    let mut relay = Relay::spawn(|config| config.log.qlog = Some(directory.clone())).await;
    let echo = TcpEcho::start().await;
    for http in [Http::H2, Http::H3] {
        let client = relay.client_over(http).await;
        assert_echoes(&mut open_tcp(&client, &echo).await).await;
        client.close(h3::NO_ERROR, b"");
    }
    let record = relay.recorded("the end", |record| over(record) && record.http == Some(3)).await;
    relay.stop().await;

    let [file] = &files(&directory)[..] else { panic!("one file: HTTP/2 has none") };
    let name = file.file_name().unwrap().to_str().unwrap();
    let (start, id) = (record.start.to_string().replace(':', ""), record.id.unwrap());
    assert_eq!(name, format!("{start}-{id}.sqlog"));
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);

    let records = records(file);
    assert_eq!(records[0]["title"], format!("connection {id} of {}", record.client));
    let kinds = |name: &str| {
        let events = records[1..].iter().filter(|event| event["name"] == name);
        events.map(|event| event["data"]["header"]["packet_type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for name in ["transport:packet_sent", "transport:packet_received"] {
        let kinds = kinds(name);
        for kind in ["initial", "handshake", "1RTT"] {
            assert!(kinds.iter().any(|sent| sent == kind), "no {kind} in {name}: {kinds:?}");
        }
    }
}
