//! The admin socket: what it answers, and what it does not let itself be held up by.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use masque_relay::{
    admin::{Answer, Ask, CLIENTS, client::Client as Asker},
    config::Admin,
    probe::Http,
    proto::codes::h3,
};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::support::{
    Relay, on_versions,
    request::{ANSWERED, RESET, assert_malformed, assert_refused, path, tcp, udp},
    tcp::TcpEcho,
    tunnels::open_tcp,
    until,
};

async fn spawn() -> (Relay, PathBuf, TempDir) {
    let files = tempfile::tempdir().unwrap();
    let socket = files.path().join("admin.sock");
    let relay = Relay::spawn(|config| config.admin = Admin::At(socket.clone())).await;
    (relay, socket, files)
}

/// Asks from a thread of its own, as a command does.
async fn asked(socket: &Path, ask: Ask) -> Result<Vec<Answer>, String> {
    let socket = socket.to_owned();
    let asking = move || {
        let mut asker = Asker::connect(&socket).map_err(|error| error.to_string())?;
        asker.ask(&ask).map_err(|error| error.to_string())?.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())
    };
    tokio::task::spawn_blocking(asking).await.unwrap()
}

#[tokio::test]
async fn it_tells_how_the_relay_is() {
    let (relay, socket, _files) = spawn().await;
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let echo = TcpEcho::start().await;
    let client = relay.client().await;
    let tunnel = open_tcp(&client, &echo).await;
    let [Answer::Health(health)] = &asked(&socket, Ask::Health).await.unwrap()[..] else { panic!("no health") };
    assert_eq!((health.status.as_str(), health.connections, health.tunnels, health.workers), ("ok", 1, 1, 1));
    assert_eq!((health.listen.as_slice(), health.records.open), (relay.addresses(), 1));

    let [Answer::Metrics(samples)] = &asked(&socket, Ask::Metrics { text: false }).await.unwrap()[..] else { panic!("no metrics") };
    assert_eq!(samples.iter().find(|sample| sample.name == "tunnels_open").unwrap().value, 1);
    let [Answer::Text(text)] = &asked(&socket, Ask::Metrics { text: true }).await.unwrap()[..] else { panic!("no text") };
    assert!(text.contains("# TYPE masque_relay_tunnels_open gauge\nmasque_relay_tunnels_open 1\n"), "{text}");

    let [Answer::Session(session)] = &asked(&socket, Ask::Sessions).await.unwrap()[..] else { panic!("no session") };
    let [Answer::Record(record)] = &asked(&socket, Ask::Session { id: session.id.clone() }).await.unwrap()[..] else { panic!("no record") };
    assert_eq!((session.requests, session.close.is_none(), record.requests[0].succeeded()), (1, true, true));
    let error = asked(&socket, Ask::Session { id: "9.9".into() }).await.unwrap_err();
    assert!(error.contains("no connection is called 9.9"), "{error}");
    drop(tunnel);
    relay.finish().await;
    assert!(!socket.exists(), "its file goes with the relay");
}

on_versions!(no_request_leads_to_it: h1 h2 h3);
async fn no_request_leads_to_it(http: Http) {
    let (relay, socket, files) = spawn().await;
    // Beside it somebody who would see whoever comes.
    let witness = files.path().join("witness.sock");
    let listener = UnixListener::bind(&witness).unwrap();
    listener.set_nonblocking(true).unwrap();
    let client = relay.client_over(http).await;
    for file in [&socket, &witness] {
        let file = file.to_str().unwrap();
        for authority in [
            file.to_owned(),
            format!("{file}:1"),
            format!("unix:{file}"),
            format!("unix:{file}:1"),
            format!("unix://{file}"),
            format!("file://{file}:1"),
            format!("localhost{file}:1"),
            format!("[{file}]:1"),
            format!("{}:1", file.replace('/', "%2F")),
        ] {
            // To the h2 crate nothing with a slash or `%` is an authority.
            assert_malformed(&relay, &client, tcp(&client, &authority), RESET, &authority).await;
        }
        for host in [file.to_owned(), format!("unix:{file}"), format!("[{file}]"), format!("localhost{file}")] {
            let encoded = host.replace(':', "%3A").replace('/', "%2F").replace('[', "%5B").replace(']', "%5D");
            assert_refused(&client, udp(&client, &path(&encoded, "1")), 400, "http_request_error", &host).await;
        }
    }
    for authority in ["unix:admin.sock", "localhost"] {
        assert_malformed(&relay, &client, tcp(&client, authority), ANSWERED, authority).await;
    }
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody came");
    // It is not the relay's, which has to leave nothing open.
    drop(listener);
    assert_eq!(relay.dns.count_all(), 0, "a name was looked up");
    let [Answer::Health(health)] = &asked(&socket, Ask::Health).await.unwrap()[..] else { panic!("no health") };
    assert_eq!((health.status.as_str(), health.tunnels), ("ok", 0));
    relay.finish().await;
}

#[tokio::test]
async fn who_follows_sees_what_begins_and_ends() {
    let (relay, socket, _files) = spawn().await;
    let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let ready = UnixStream::connect(&socket).unwrap();
    (&ready).write_all(b"{\"ask\":\"follow\"}\n").unwrap();
    let listener = std::thread::spawn(move || {
        for line in BufReader::new(ready).lines().map_while(Result::ok) {
            let answer: Answer = serde_json::from_str(&line).unwrap();
            if told.send(answer).is_err() {
                return;
            }
        }
    });
    // Nothing tells when it follows: connections come until one is told of.
    let mut clients = Vec::new();
    let first = loop {
        clients.push(relay.client().await);
        if let Ok(answer) = timeout(Duration::from_millis(50), hears.recv()).await {
            break answer.unwrap();
        }
    };
    assert!(matches!(first, Answer::Opened(_)), "{first:?}");
    for client in &clients {
        client.close(h3::NO_ERROR, b"");
    }
    let closed = loop {
        if let Answer::Closed(session) = hears.recv().await.unwrap() {
            break session;
        }
    };
    assert!(closed.close.is_some() && closed.duration_ms.is_some());
    // The relay's end is the end of it.
    relay.finish().await;
    while hears.recv().await.is_some() {}
    listener.join().unwrap();
}

#[tokio::test]
async fn one_connection_is_followed_to_its_end() {
    let (relay, socket, _files) = spawn().await;
    let echo = TcpEcho::start().await;
    let client = relay.client().await;
    let record = relay.recorded("a connection", |_| true).await;
    let happens = async {
        drop(open_tcp(&client, &echo).await);
        client.close(h3::NO_ERROR, b"");
    };
    let (answers, ()) = tokio::join!(asked(&socket, Ask::Follow { id: record.id }), happens);
    let answers = answers.unwrap();
    let Some(Answer::Record(last)) = answers.last() else { panic!("{answers:?}") };
    assert!(last.close.is_some() && last.requests[0].succeeded(), "{last:#?}");
    relay.finish().await;
}

#[tokio::test]
async fn what_is_no_question_is_told_so() {
    let (relay, socket, _files) = spawn().await;
    for (question, says) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "this is no question"),
        ("{\"ask\":\"password\"}\n".into(), "this is no question"),
        ("{\"ask\":\"session\"}\n".into(), "missing field `id`"),
        ("x".repeat(2000), "a question has at most 1024 bytes"),
    ] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(question.as_bytes()).unwrap();
        let line = tokio::task::spawn_blocking(move || BufReader::new(stream).lines().next().unwrap().unwrap()).await.unwrap();
        assert!(line.contains("error") && line.contains(says), "{question}: {line}");
    }
    relay.finish().await;
}

#[tokio::test]
async fn too_many_at_once_are_told_so_and_the_next_is_served() {
    let (relay, socket, _files) = spawn().await;
    let held: Vec<_> = (0..CLIENTS).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let error = asked(&socket, Ask::Health).await.unwrap_err();
    assert!(error.contains("16 others are asking already"), "{error}");
    drop(held);
    let answers = || {
        let mut asker = Asker::connect(&socket).ok()?;
        let answers = asker.ask(&Ask::Health).ok()?.collect::<Result<Vec<_>, _>>();
        answers.ok()
    };
    until("a free place", || answers().is_some(), |served| *served).await;
    relay.finish().await;
}
