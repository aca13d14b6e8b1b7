use super::*;
use crate::{
    config::Privacy,
    diagnosis::{
        By, Layer,
        record::{Act, Totals},
    },
};

fn records(workers: usize, file: Option<Queue>) -> (Arc<Records>, tokio::sync::broadcast::Sender<Note>) {
    let notes = Records::notes();
    (Arc::new(Records::new(0, workers, Privacy::Full, "proxy-authorization", file, notes.clone())), notes)
}

fn client(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn bye() -> Close {
    Close { by: By::Client, layer: Some(Layer::Application), code: Some(0x100), reason: String::new() }
}

/// The memory of a record, as far as it can be added up.
fn memory(log: &Log) -> usize {
    let kept = log.lock();
    let settings = |pairs: &Option<Pairs>| pairs.as_ref().map_or(0, |(_, pairs)| size_of_val(&**pairs));
    let spare = (kept.first.capacity() - kept.first.len() + kept.last.capacity() - kept.last.len()) * size_of::<Event>();
    size_of::<Log>() + kept.used[0] + kept.used[1] + settings(&kept.settings_sent) + settings(&kept.settings_received) + spare
}

#[test]
fn a_record_takes_no_more_than_its_room() {
    let (records, _) = records(1, None);
    let open = records.begin(client(1));
    let log = Arc::clone(open.log());
    let many: Vec<_> = (0..200).map(|id| (id, u64::MAX >> 2)).collect();
    log.settings_sent(&many);
    log.settings_received(&many);
    for stream in 0..1000 {
        let mut head = Head::default();
        for field in 0..50 {
            head.push(format!("x-{stream}-{field}"), "y".repeat(200));
        }
        log.opened(stream * 4);
        log.head(stream * 4, &head);
        let asked = Asked { user: "somebody".into(), target: "a".repeat(253).into() };
        log.note(stream * 4, What::Asked(Box::new(asked)));
        log.note(stream * 4, What::Refused(Box::new(Refused { status: 502, error: "dns_error", why: "no".repeat(50).into() })));
        for (by, act) in [(By::Client, Act::Reset), (By::Relay, Act::Stopped)] {
            log.note(stream * 4, What::End { by, act, code: Some(1) });
        }
        log.note(stream * 4, What::Ended(Box::new(Ended { why: "it is over".into(), carried: Some(Totals::default()) })));
        log.note(0, What::Moved(Box::new(client(2))));
        log.note(0, What::Critical(Box::new(Critical { by: By::Client, act: Act::Reset, stream: "control" })));
    }
    open.end(bye(), false);
    // These events do not fill their places to the last byte; others may.
    let full = memory(&log) - log.lock().used.iter().sum::<usize>() + FIRST + LAST;
    println!("{} bytes, {full} at the worst", memory(&log));
    assert!(full <= ROOM, "{full} bytes");
    let record = log.record();
    assert!(record.cut && record.left_out > 8000, "{}", record.left_out);
    assert_eq!(record.settings_sent.len(), SETTINGS);
    assert_eq!((record.requests_in_all, record.requests[0].stream), (Some(1000), Some(0)));
}

#[test]
fn heads_that_look_alike_are_kept_once_and_counted_for_as_long() {
    let (records, _) = records(1, None);
    let open = records.begin(client(1));
    let log = Arc::clone(open.log());
    for stream in 0..500 {
        let mut head = Head::default();
        // Some alike, and some that are not.
        head.push("user-agent", format!("{}{}", "y".repeat(50), if stream % 3 == 0 { stream } else { 0 }));
        log.opened(stream * 4);
        log.head(stream * 4, &head);
        let kept = log.lock();
        let texts = kept.last.iter().filter_map(|event| match &event.what {
            What::Head { text, fresh } => Some((Arc::as_ptr(text).cast::<u8>(), *fresh)),
            _ => None,
        });
        let all: std::collections::HashSet<_> = texts.clone().map(|(text, _)| text).collect();
        let counted: Vec<_> = texts.filter(|(_, fresh)| *fresh).map(|(text, _)| text).collect();
        let first = kept.first.iter().filter_map(|event| match &event.what {
            What::Head { text, fresh: true } => Some(Arc::as_ptr(text).cast::<u8>()),
            _ => None,
        });
        let first: Vec<_> = first.collect();
        for text in all.iter().chain(kept.heads.iter().flatten().map(|head| Arc::as_ptr(head).cast::<u8>()).collect::<Vec<_>>().iter()) {
            assert_eq!(counted.iter().chain(&first).filter(|one| *one == text).count(), 1, "at stream {stream}");
        }
        assert_eq!(kept.used[1], kept.last.iter().map(Event::size).sum::<usize>());
    }
}

#[test]
fn an_ordinary_connection_stays_well_within_it() {
    let (records, _) = records(1, None);
    let open = records.begin(client(1));
    let log = Arc::clone(open.log());
    log.settings_sent(&[(0x6, 16_384), (0x8, 1), (0x33, 1)]);
    log.settings_received(&[(0x1, 16_384), (0x7, 100), (0x33, 1)]);
    let mut head = Head::default();
    for (name, value) in
        [(":method", "CONNECT"), (":authority", "example.com:443"), ("proxy-authorization", "Bearer x"), ("priority", "u=3")]
    {
        head.push(name, value);
    }
    for stream in [0, 4] {
        log.opened(stream);
        log.head(stream, &head);
        log.note(stream, What::Asked(Box::new(Asked { user: "alice".into(), target: "…example.com:443".into() })));
        log.note(stream, What::Accepted { status: 200 });
        for by in [By::Client, By::Relay] {
            log.note(stream, What::End { by, act: Act::Finished, code: None });
        }
        log.note(stream, What::Ended(Box::new(Ended { why: "both sides finished".into(), carried: Some(Totals::default()) })));
    }
    open.end(bye(), false);
    assert!(!log.record().cut);
    assert!(memory(&log) <= ROOM * 2 / 3, "{} bytes", memory(&log));
    println!("{} bytes for two requests", memory(&log));
}

#[test]
fn a_worker_keeps_the_last_ones_and_its_share_of_them() {
    for (workers, room) in [(1, 1024), (3, 342)] {
        let (records, _) = records(workers, None);
        let open = records.begin(client(7));
        for port in 0..2000 {
            records.begin(client(port)).end(bye(), false);
            records.turn_away(client(port), "retry");
            records.negotiate(client(port), stranger(2));
        }
        assert_eq!(records.counts(), Counts { open: 1, closed: room, turned_away: 64 + 32 });
        assert_eq!(records.find(id("0.1")).map(|log| log.client()), Some(client(7)));
        assert!(records.find(id("0.2")).is_none(), "it is one of the oldest");
        drop(open);
        assert_eq!(records.all().last().unwrap().record().close.unwrap().reason, "the relay stopped");
    }
}

fn stranger(offered: u32) -> Negotiation {
    Negotiation { offered, connection_ids: [8, 0], answered: vec![1] }
}

/// A client's second packet may come to another worker than its first.
#[test]
fn version_negotiation_before_a_connection_is_told_whichever_worker_had_it() {
    let (one, notes) = records(2, None);
    let other = Arc::new(Records::new(1, 2, Privacy::Full, "", None, notes));
    let workers = [Arc::clone(&one), Arc::clone(&other)];
    let early = one.begin(client(1));
    for port in [1, 1, 2] {
        other.negotiate(client(port), stranger(0x6b33_43cf));
    }
    let (late, elsewhere) = (one.begin(client(1)), one.begin(client(3)));
    let before = |open: &Open| told(open.log(), &workers).negotiated;
    // A clock of microseconds: what came before by less than that may be told as well.
    assert!(before(&early).is_none() || early.log().start() == other.all()[0].start());
    assert_eq!((before(&late).as_deref(), before(&elsewhere)), (Some("1.2"), None));
    let stranger = told(&other.find(id("1.2")).unwrap(), &workers);
    assert_eq!((stranger.negotiated.as_ref(), stranger.turned_away.as_deref()), (None, Some("version negotiation")));
    assert_eq!(Session::of(&stranger).turned_away.unwrap(), "version negotiation, it offered 0x6b3343cf (v2)");
    // It is read as it is written.
    let written = serde_json::to_string(&stranger).unwrap();
    assert_eq!(serde_json::from_str::<crate::diagnosis::Record>(&written).unwrap(), stranger);
}

#[test]
fn trouble_is_told_to_who_asks_for_it() {
    let (records, _) = records(1, None);
    for (asks, told) in [(true, true), (false, false)] {
        let open = records.begin(client(1));
        open.log().opened(0);
        open.log().note(0, What::Refused(Box::new(Refused { status: 407, error: "http_request_denied", why: "no credentials".into() })));
        assert_eq!(open.end(bye(), asks).is_some(), told);
    }
}

#[test]
fn what_the_disk_is_too_slow_for_is_counted() {
    // A full pipe is a disk that does not take anything for now.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let reader = std::thread::spawn({
        let path = path.clone();
        move || std::fs::File::open(path).unwrap()
    });
    let writer = Writer::open(&path).unwrap();
    let mut reader = reader.join().unwrap();
    let (records, _) = records(1, Some(writer.queue()));
    let count = 4000;
    for port in 0..count {
        records.begin(client(port)).end(bye(), false);
    }
    // What waits, and what is in the pipe, is less than that.
    let lost = records.lost();
    assert!(lost.no_room > 1000 && lost.not_written == 0, "{lost:?}");
    let read = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
        text.lines().count() as u64
    });
    drop(writer);
    assert_eq!(read.join().unwrap() + lost.no_room, u64::from(count));
}

#[test]
fn a_file_that_takes_nothing_costs_its_records_and_no_more() {
    let writer = Writer::open(std::path::Path::new("/dev/full")).unwrap();
    let (records, _) = records(1, Some(writer.queue()));
    // More than the writer's buffer holds back.
    for port in 0..200 {
        records.begin(client(port)).end(bye(), false);
    }
    drop(writer);
    let lost = records.lost();
    assert!(lost.not_written > 0, "{lost:?}");
}

#[tokio::test]
async fn a_follower_that_does_not_read_is_told_how_much_it_missed() {
    let (records, notes) = records(1, None);
    let mut follower = notes.subscribe();
    for port in 0..1000 {
        records.begin(client(port)).end(bye(), false);
    }
    assert!(matches!(follower.recv().await, Err(tokio::sync::broadcast::error::RecvError::Lagged(1744))), "2000 notes less the last 256");
    assert!(matches!(follower.recv().await, Ok(Note::Opened(_))));
}

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

#[test]
fn a_connection_is_called_by_its_one_name() {
    assert_eq!(id("3.17").to_string(), "3.17");
    for other in ["", "3", "3.", ".17", "03.17", "3.017", "3.17 ", "+3.17", "256.1", "3.17.1"] {
        assert!(other.parse::<Id>().is_err(), "{other:?}");
    }
}

#[test]
fn where_nothing_is_kept_nothing_is_found() {
    let (notes, mut followed) = tokio::sync::broadcast::channel(4);
    let records = Arc::new(Records::new(0, 1, Privacy::Full, "proxy-authorization", None, notes).forgetful());
    let open = records.begin(client(1));
    let log = Arc::clone(open.log());
    log.http(3);
    log.opened(0);
    log.note(0, What::Accepted { status: 200 });
    assert!(log.shook_hands());
    assert_eq!(open.end(bye(), true), None);
    records.begin(client(2)).turn_away("a bad first packet");
    records.turn_away(client(3), "retry");
    assert_eq!((records.counts(), records.all().len()), (Counts::default(), 0));
    let record = log.record();
    assert_eq!((record.http, record.requests.len(), record.close), (None, 0, None));
    assert!(followed.try_recv().is_err());
}
