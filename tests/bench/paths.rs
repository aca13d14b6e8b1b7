//! `cargo bench -- --paths`: what a congestion controller makes of a path that is long, narrow or lossy.
//!
//! ```text
//! relay ◀─ loopback ─ source
//!   └──── emulated path: delay, rate, queue, loss ────▶ client      "relay": a TCP tunnel, and a UDP tunnel with an echo beside it
//! quinn ─ the same path ──────────────────────────────▶ client      "direct": a stream, and datagrams that come back
//! ```
//!
//! 1. *Downloads.* The relay decides how fast it sends to clients. How fast clients send to it is theirs to decide, and nothing here shows it.
//! 2. *Goodput* counts from the moment the download is asked for, slow start included.
//! 3. *Added delay* is the round trip of small packets beside the download, without the path's own: what waits in its queue, or in ours.
//! 4. *Direct* is quinn alone with the same controller and the same window at first: what lies between the two is the relay. A TCP connection is no
//!    comparison: the emulator carries UDP alone.
//!
//! All paths of 10 Mbit/s are driven at the same time, those of 100 Mbit/s by twos: together no more than the emulator keeps up with, which the
//! goodput of CUBIC without loss shows.

use std::{fmt, fs, io::Write, path::Path as File, time::Duration};

use clap::ValueEnum;
use futures_util::{StreamExt, stream};
use masque_relay::probe::Http;
use quinn::congestion::{BbrConfig, ControllerFactory, CubicConfig};
use serde_json::json;
use tokio::{
    io::AsyncWriteExt,
    net::TcpListener,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at},
};

use crate::{
    Failure,
    emulator::{Conditions, Path, Tally},
    floor::Floor,
    options::Arguments,
    subject::{Ground, On},
    wire::{Sending, Socket, Wire},
};

/// A congestion controller of quinn's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Controller {
    Cubic,
    Bbr,
}

impl Controller {
    /// As the command line and the relay's configuration say it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }

    /// As the relay has it.
    pub(crate) fn factory(self) -> std::sync::Arc<dyn ControllerFactory + Send + Sync> {
        match self {
            Self::Cubic => {
                let mut config = CubicConfig::default();
                config.initial_window(INITIAL_WINDOW);
                std::sync::Arc::new(config)
            }
            Self::Bbr => {
                let mut config = BbrConfig::default();
                config.initial_window(INITIAL_WINDOW);
                std::sync::Arc::new(config)
            }
        }
    }
}

/// The relay's own.
const INITIAL_WINDOW: u64 = 32 * 1200;

/// One path, the same both ways.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// Milliseconds, there and back.
    trip: u64,
    megabits: u64,
    /// Per cent, each way.
    loss: u64,
}

impl Line {
    fn conditions(self) -> Conditions {
        let delay = Duration::from_millis(self.trip) / 2;
        let (rate, loss) = (self.megabits * 1_000_000 / 8, self.loss as f64 / 100.0);
        Conditions { delay, rate: Some(rate), queue: self.queue(), loss, ..Conditions::default() }
    }

    /// Bytes that fit before the narrow place: as many as are on their way when the path is full, one product of bandwidth and delay.
    fn queue(self) -> usize {
        (self.megabits * 1_000_000 / 8 * self.trip / 1000) as usize
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Mbit/s, {} ms, {} % loss", self.megabits, self.trip, self.loss)
    }
}

/// What one download came to.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    /// Mbit/s.
    goodput: f64,
    /// Milliseconds added to the path's round trip.
    p50: f64,
    p99: f64,
    /// Milliseconds until the first [`BEGINNING`] bytes were there.
    beginning: f64,
    /// Of the packets towards the client, those that found the path's queue full.
    overflow: f64,
}

/// Everything about one controller on one path.
struct Row {
    line: Line,
    controller: Controller,
    relay: Vec<Outcome>,
    direct: Vec<Outcome>,
}

/// Drives all paths and prints the table.
pub(crate) async fn measure(ground: &Ground<'_>, arguments: &Arguments) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let (rates, trips) = if arguments.quick { (&[10][..], &[20][..]) } else { (&[10, 100][..], &[20, 100][..]) };
    for megabits in rates {
        for trip in trips {
            for loss in [0, 1] {
                let line = Line { trip: *trip, megabits: *megabits, loss };
                rows.extend([Controller::Cubic, Controller::Bbr].map(|controller| Row { line, controller, relay: vec![], direct: vec![] }));
            }
        }
    }
    for round in 1..=arguments.runs() {
        for (megabits, at_once) in [(10, if arguments.quick { 2 } else { 16 }), (100, 2)] {
            let ours = rows.iter().enumerate().filter(|(_, row)| row.line.megabits == megabits);
            let trials: Vec<_> = ours.flat_map(|(at, _)| [(at, On::Relay), (at, On::Floor(Floor::Quinn))]).collect();
            let trials: Vec<_> = stream::iter(trials.into_iter().map(|(at, on)| {
                let Row { line, controller, .. } = rows[at];
                async move { (at, on, download(ground, on, line, controller, round, arguments.quick).await) }
            }))
            .buffered(at_once)
            .collect()
            .await;
            for (at, on, outcome) in trials {
                let Row { line, controller, .. } = rows[at];
                let outcome = outcome.map_err(|error| format!("{line}, {}, {on:?}: {error}", controller.name()))?;
                let (list, name) = if on == On::Relay { (&mut rows[at].relay, "relay") } else { (&mut rows[at].direct, "direct") };
                list.push(outcome);
                let Outcome { goodput, p50, p99, beginning, overflow } = outcome;
                writeln!(
                    std::io::stderr(),
                    "{round}/{} {line}, {:<5} {name:<6} {goodput:>5.1} Mbit/s, delay + {p50:.1} / {p99:.1} ms, beginning {beginning:.0} ms, {:.2} % overflow",
                    arguments.runs(),
                    controller.name(),
                    overflow * 100.0
                )?;
            }
        }
    }
    let table = if arguments.markdown { table(&rows, MARKDOWN) } else { table(&rows, PLAIN) };
    std::io::stdout().write_all(table.as_bytes())?;
    arguments.json.as_deref().map_or(Ok(()), |path| write_json(path, &rows))
}

/// One download beside small packets, for [`SPAN`].
async fn download(ground: &Ground<'_>, on: On, line: Line, controller: Controller, seed: u32, quick: bool) -> Result<Outcome, Failure> {
    let subject = ground.congested(on, controller).await?;
    let path = Path::start(subject.address(), seed.into(), line.conditions(), line.conditions()).await?;
    let subject = subject.behind(path.address());
    let (begun, span) = (Instant::now(), if quick { SPAN / 8 } else { SPAN });
    let mut held = JoinSet::new();
    let (transfer, pings);
    // Held until the end.
    let (_endpoint, _client);
    if on == On::Relay {
        let client = subject.client(Http::H3).await?;
        let target = Socket::bind()?;
        let address = target.address()?;
        held.spawn(async move {
            target.introduced().await?;
            target.echo(Sending::Singly).await
        });
        let mut wire = Wire::Datagrams(client.connect_udp(&address.ip().to_string(), address.port()).await?);
        let source = TcpListener::bind(("127.0.0.1", 0)).await?;
        let authority = source.local_addr()?.to_string();
        held.spawn(async move {
            let (mut stream, _) = source.accept().await?;
            let chunk = vec![0; 64 << 10];
            loop {
                stream.write_all(&chunk).await?;
            }
        });
        let mut tunnel = None;
        let started = Instant::now();
        let receive = async || {
            let tunnel = match &mut tunnel {
                Some(tunnel) => tunnel,
                empty => empty.insert(client.connect_tcp(&authority).await?),
            };
            Ok(tunnel.recv().await?.ok_or("the download ended")?.len())
        };
        (transfer, pings) = tokio::join!(receive_all(started, span, receive), ping(&mut wire, started + span));
        _client = client;
    } else {
        let (endpoint, connection) = subject.quinn().await?;
        let mut wire = Wire::Quinn(connection.clone(), endpoint.clone());
        let started = Instant::now();
        let mut recv = None;
        let receive = async || {
            let recv = match &mut recv {
                Some((_, recv)) => recv,
                empty => {
                    let (mut send, recv) = connection.open_bi().await?;
                    send.write_all(&u64::MAX.to_be_bytes()).await?;
                    &mut empty.insert((send, recv)).1
                }
            };
            Ok(recv.read_chunk(usize::MAX, true).await?.ok_or("the download ended")?.bytes.len())
        };
        (transfer, pings) = tokio::join!(receive_all(started, span, receive), ping(&mut wire, started + span));
        _endpoint = endpoint;
    }
    let Tally { passed, lost, no_room, .. } = path.tally().1;
    let overflow = no_room as f64 / (passed + lost + no_room) as f64;
    let ((bytes, beginning), mut trips) = (transfer?, pings?);
    if trips.is_empty() {
        return Err(format!("no small packet came back within {:?}", begun.elapsed()).into());
    }
    trips.sort_by(f64::total_cmp);
    let own = line.trip as f64;
    let at = |percent: usize| trips[(trips.len() - 1) * percent / 100] - own;
    Ok(Outcome { goodput: bytes as f64 * 8.0 / 1e6 / span.as_secs_f64(), p50: at(50), p99: at(99), beginning, overflow })
}

/// Bytes that came until `span` was over, and the milliseconds that the first of them took.
async fn receive_all(
    started: Instant,
    span: Duration,
    mut receive: impl AsyncFnMut() -> Result<usize, Failure>,
) -> Result<(usize, f64), Failure> {
    let (mut bytes, mut beginning) = (0, f64::NAN);
    while let Ok(came) = timeout_at(started + span, receive()).await {
        bytes += came?;
        if beginning.is_nan() && bytes >= BEGINNING {
            beginning = ms(started.elapsed());
        }
    }
    Ok((bytes, beginning))
}

/// Round trips of small packets until `end`, milliseconds. What is lost is lost; what is late is waited for a little.
async fn ping(wire: &mut Wire, end: Instant) -> Result<Vec<f64>, Failure> {
    let (mut left, mut trips) = (Vec::new(), Vec::new());
    let mut ticks = interval(APART);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            payload = wire.recv() => {
                let Some(payload) = payload? else { continue };
                let number = payload.first_chunk().ok_or("a small packet came back changed")?;
                let left: &Instant = left.get(u64::from_be_bytes(*number) as usize).ok_or("a small packet came that was never sent")?;
                trips.push(ms(left.elapsed()));
            }
            _ = ticks.tick(), if Instant::now() < end => {
                let mut payload = vec![0; SMALL];
                payload[..8].copy_from_slice(&(left.len() as u64).to_be_bytes());
                left.push(Instant::now());
                wire.send(payload.into()).await?;
            }
            () = sleep_until(end + LAST) => return Ok(trips),
        }
    }
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

/// A table's head, and what stands around cells.
type Style = (&'static str, [&'static str; 3]);

const PLAIN: Style = (
    "path                                    goodput, Mbit/s: relay, direct, ×   delay + p50 / p99, ms: relay, direct   first 256 kB, ms   lost in the queue, %\n",
    ["", "   ", ""],
);
const MARKDOWN: Style = (
    "| path | | goodput, Mbit/s | direct | × direct | added delay, p50 / p99 ms | direct | first 256 kB, ms | direct | lost in the queue, % |\n\
     | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    ["| ", " | ", " |"],
);

/// Medians of the runs.
fn table(rows: &[Row], (head, [open, between, close]): Style) -> String {
    let mut table = head.to_owned();
    for Row { line, controller, relay, direct } in rows {
        let [one, other] = [relay, direct].map(|outcomes| Outcome {
            goodput: median(outcomes, |one| one.goodput),
            p50: median(outcomes, |one| one.p50),
            p99: median(outcomes, |one| one.p99),
            beginning: median(outcomes, |one| one.beginning),
            overflow: median(outcomes, |one| one.overflow),
        });
        let delay = |outcome: Outcome| format!("{:.1} / {:.1}", outcome.p50, outcome.p99);
        let cells = [
            format!("{:<29}", line.to_string()),
            format!("{:<5}", controller.name()),
            format!("{:>5.1}", one.goodput),
            format!("{:>5.1}", other.goodput),
            format!("{:.2}", one.goodput / other.goodput),
            format!("{:>13}", delay(one)),
            format!("{:>13}", delay(other)),
            format!("{:>4.0}", one.beginning),
            format!("{:>4.0}", other.beginning),
            format!("{:>4.1}", one.overflow * 100.0),
        ];
        let cells = cells.map(|cell| if open.is_empty() { cell } else { cell.trim().to_owned() });
        table += &format!("{open}{}{close}\n", cells.join(between));
    }
    table
}

fn median(outcomes: &[Outcome], figure: impl Fn(&Outcome) -> f64) -> f64 {
    let mut figures: Vec<_> = outcomes.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn write_json(path: &File, rows: &[Row]) -> Result<(), Failure> {
    let rows = rows.iter().map(|row| {
        let outcomes = |outcomes: &[Outcome]| {
            let one = |one: &Outcome| json!({ "goodput": one.goodput, "p50": one.p50, "p99": one.p99, "beginning": one.beginning, "overflow": one.overflow });
            outcomes.iter().map(one).collect::<Vec<_>>()
        };
        json!({
            "path": row.line.to_string(),
            "queue": row.line.queue(),
            "controller": row.controller.name(),
            "relay": outcomes(&row.relay),
            "direct": outcomes(&row.direct),
        })
    });
    let text = format!("{:#}\n", json!({ "paths": rows.collect::<Vec<_>>() }));
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}

/// Slow start and its overshoot, and steady state several times as long even at 100 ms.
const SPAN: Duration = Duration::from_secs(8);

/// Small packets: a call's.
const SMALL: usize = 160;
const APART: Duration = Duration::from_millis(20);

/// How long the last of them are waited for.
const LAST: Duration = Duration::from_millis(500);

/// About what a page needs to appear.
const BEGINNING: usize = 256_000;
