//! What is measured: one line a row.

use std::{pin::Pin, time::Duration};

use masque_relay::probe::Http;

use crate::{
    Failure, fair,
    floor::Floor,
    meter::Figure,
    setup,
    subject::{On, Subject},
    tcp, udp,
    wire::{Sending, Shape},
};

/// One row of the table.
pub(crate) struct Row {
    /// As `--rows` and the README know it.
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    /// Not to be exceeded.
    pub(crate) bound: Limit,
    /// To be reached.
    pub(crate) goal: Limit,
    /// Rows whose mean is the least this can cost; a figure reads as a multiple of it.
    pub(crate) floor: &'static [&'static str],
    pub(crate) on: On,
    pub(crate) run: Run,
}

/// The work of a row: some figure for one unit of it, in seconds or bytes.
pub(crate) type Run = fn(&Subject) -> Pin<Box<dyn Future<Output = Result<Figure, Failure>> + '_>>;

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// CPU for a packet in one direction.
    Packet,
    /// CPU for a gigabyte.
    Gigabyte,
    /// CPU for setting up one of something.
    Each,
    /// Memory of one of something.
    Memory,
    /// No CPU, but the median round trip.
    Trip,
    /// No CPU, but a share of something.
    Share,
}

/// How much is too much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit {
    None,
    /// In the row's unit.
    At(f64),
    /// Times the rival's figure of the same hour (`--against`): the machine's noise is larger than the difference that matters.
    Times(f64),
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Packet => "µs/packet",
            Self::Gigabyte => "s/GB",
            Self::Each => "ms",
            Self::Memory => "KiB",
            Self::Trip => "µs",
            Self::Share => "%",
        }
    }

    /// From seconds or bytes.
    pub(crate) fn scale(self) -> f64 {
        match self {
            Self::Packet | Self::Trip => 1e6,
            Self::Gigabyte => 1.0,
            Self::Each => 1e3,
            Self::Memory => 1.0 / 1024.0,
            Self::Share => 100.0,
        }
    }

    /// What is counted a second.
    pub(crate) fn rate(self) -> &'static str {
        match self {
            Self::Packet => "packets/s",
            Self::Gigabyte => "GB/s",
            Self::Each | Self::Memory | Self::Trip | Self::Share => "/s",
        }
    }
}

/// A row; the work gets `$subject`.
macro_rules! row {
    ($name:literal, $unit:ident, $bound:expr, $goal:expr, $floor:expr, $on:expr, |$subject:ident| $work:expr) => {
        Row { name: $name, unit: Unit::$unit, bound: $bound, goal: $goal, floor: &$floor, on: $on, run: |$subject| Box::pin($work) }
    };
}

use Http::{H2, H3};
use Limit::{At, None as No, Times};

const BARE: On = On::Floor(Floor::Bare);
const QUINN: On = On::Floor(Floor::Quinn);
const BURSTS: Shape = Shape { sending: Sending::Bursts, ..udp::ONE };
const MANY: Shape = Shape { connections: 8, tunnels: 4, ..udp::ONE };
const MANY_BURSTS: Shape = Shape { sending: Sending::Bursts, ..MANY };
const SPREAD: Shape = Shape { connections: 64, ..udp::ONE };
const CAPSULES: Shape = Shape { capsules: true, ..udp::ONE };
const CAPSULES_H2: Shape = Shape { http: H2, ..CAPSULES };

/// Packets of a row that goes as fast as it can, packets of one that goes one by one, bytes of a transfer.
const PACKETS: (u64, u64) = (200_000, 500);
const SINGLES: (u64, u64) = (20_000, 100);
const BYTES: (u64, u64) = (1_000_000_000, 4_000_000);

/// The table. Bounds and goals are those of the design.
#[rustfmt::skip]
pub(crate) static ROWS: &[Row] = &[
    row!("floor: bare UDP echo, window 64",       Packet, No, No, [], BARE,  |on| udp::echo(on, udp::ONE, 64, amount(on, PACKETS))),
    row!("floor: bare UDP echo, 5,000/s",         Packet, No, No, [], BARE,  |on| udp::steady(on, udp::ONE, 5_000, on.amount(10_000, 200))),
    row!("floor: bare UDP echo, 20,000/s",        Packet, No, No, [], BARE,  |on| udp::steady(on, udp::ONE, 20_000, on.amount(40_000, 200))),
    row!("floor: bare UDP echo, one in flight",   Packet, No, No, [], BARE,  |on| udp::echo(on, udp::ONE, 1, amount(on, SINGLES))),
    row!("floor: round trip to the target alone", Trip,   No, No, [], BARE,  |on| udp::direct(on, amount(on, SINGLES))),
    row!("floor: quinn echo, window 64",          Packet, No, No, [], QUINN, |on| udp::echo(on, udp::ONE, 64, amount(on, PACKETS))),
    row!("floor: quinn echo, 5,000/s",            Packet, No, No, [], QUINN, |on| udp::steady(on, udp::ONE, 5_000, on.amount(10_000, 200))),
    row!("floor: quinn echo, 20,000/s",           Packet, No, No, [], QUINN, |on| udp::steady(on, udp::ONE, 20_000, on.amount(40_000, 200))),
    row!("floor: quinn echo, one in flight",      Packet, No, No, [], QUINN, |on| udp::echo(on, udp::ONE, 1, amount(on, SINGLES))),
    row!("floor: quinn stream to the client",     Gigabyte, No, No, [], QUINN, |on| tcp::to_client(on, H3, 1, amount(on, BYTES))),
    row!("floor: quinn stream from the client",   Gigabyte, No, No, [], QUINN, |on| tcp::to_target(on, H3, 1, amount(on, BYTES))),
    row!("floor: quinn handshake",                Each, No, No, [], QUINN, |on| setup::connections(on, H3, false, on.amount(1000, 5))),

    row!("UDP out alone",                         Packet, At(2.8), At(2.2), ECHO, On::Relay, |on| udp::out(on, amount(on, PACKETS))),
    row!("UDP back alone, target singly",         Packet, At(3.4), At(2.6), ECHO, On::Relay, |on| udp::back(on, Sending::Singly, amount(on, PACKETS))),
    row!("UDP back alone, target in bursts",      Packet, No, No, ECHO, On::Relay, |on| udp::back(on, Sending::Bursts, amount(on, PACKETS))),
    row!("UDP echo, 1 tunnel, target singly",     Packet, At(3.2), At(2.6), ECHO, On::Relay, |on| udp::echo(on, udp::ONE, 64, amount(on, PACKETS))),
    row!("UDP echo, 1 tunnel, target in bursts",  Packet, No, No, ECHO, On::Relay, |on| udp::echo(on, BURSTS, 64, amount(on, PACKETS))),
    row!("UDP echo, 32 tunnels, target singly",   Packet, At(3.0), At(2.5), ECHO, On::Relay, |on| udp::echo(on, MANY, 8, amount(on, PACKETS))),
    row!("UDP echo, 32 tunnels, target in bursts", Packet, No, No, ECHO, On::Relay, |on| udp::echo(on, MANY_BURSTS, 8, amount(on, PACKETS))),
    row!("UDP echo, 5,000 packets/s",             Packet, Times(1.15), Times(0.85), ["floor: bare UDP echo, 5,000/s", "floor: quinn echo, 5,000/s"],
        On::Relay, |on| udp::steady(on, udp::ONE, 5_000, on.amount(10_000, 200))),
    row!("UDP echo, 20,000 packets/s",            Packet, Times(1.15), Times(0.85), ["floor: bare UDP echo, 20,000/s", "floor: quinn echo, 20,000/s"],
        On::Relay, |on| udp::steady(on, udp::ONE, 20_000, on.amount(40_000, 200))),
    row!("UDP echo, one in flight",               Packet, Times(1.05), Times(0.8), ["floor: bare UDP echo, one in flight", "floor: quinn echo, one in flight"],
        On::Relay, |on| udp::echo(on, udp::ONE, 1, amount(on, SINGLES))),
    row!("64 connections, 8,000 packets/s, 1 worker", Packet, No, No, [], On::Relay, |on| udp::steady(on, SPREAD, 8_000, on.amount(40_000, 640))),
    row!("64 connections, 8,000 packets/s, 2 workers", Packet, No, No, [], On::TwoWorkers, |on| udp::steady(on, SPREAD, 8_000, on.amount(40_000, 640))),
    row!("UDP echo, capsules on HTTP/3",          Packet, At(3.5), At(3.0), ECHO, On::Relay, |on| udp::echo(on, CAPSULES, 64, amount(on, PACKETS))),

    row!("TCP to the client, 1 stream",           Gigabyte, Times(1.1), Times(0.85), DOWN, On::Relay, |on| tcp::to_client(on, H3, 1, amount(on, BYTES))),
    row!("TCP to the client, 8 streams",          Gigabyte, Times(1.1), Times(0.85), DOWN, On::Relay, |on| tcp::to_client(on, H3, 8, amount(on, BYTES))),
    row!("TCP to the target, 1 stream",           Gigabyte, At(1.2), At(1.0), UP, On::Relay, |on| tcp::to_target(on, H3, 1, amount(on, BYTES))),
    row!("TCP to the target, 8 streams",          Gigabyte, At(1.8), At(1.5), UP, On::Relay, |on| tcp::to_target(on, H3, 8, amount(on, BYTES))),

    row!("new connection with a UDP tunnel",      Each, At(0.45), At(0.36), ["floor: quinn handshake"], On::Relay, |on| setup::connections(on, H3, false, on.amount(1000, 5))),
    row!("the same with X25519MLKEM768",          Each, No, No, ["floor: quinn handshake"], On::Relay, |on| setup::connections(on, H3, true, on.amount(1000, 5))),
    row!("new UDP tunnel",                        Each, At(0.035), At(0.025), [], On::Relay, |on| setup::udp_tunnels(on, H3, on.amount(5000, 20))),
    row!("new TCP tunnel",                        Each, At(0.07), At(0.05), [], On::Relay, |on| setup::tcp_tunnels(on, H3, on.amount(5000, 20))),
    row!("memory of a connection with a UDP tunnel", Memory, At(50.0), At(27.0), [], On::Relay, |on| setup::memory(on, H3, on.amount(200, 5), 0)),
    row!("memory of a further UDP tunnel",        Memory, At(8.0), At(5.0), [], On::Relay, |on| setup::memory(on, H3, on.amount(50, 2), on.amount(20, 2))),

    row!("fairness: share of TCP beside a UDP flood", Share, No, No, [], On::Relay, |on| fair::tcp_beside_udp(on, seconds(on))),
    row!("fairness: share of a flood beside TCP echoes", Share, No, No, [], On::Relay, |on| fair::udp_beside_exchanges(on, seconds(on))),
    row!("fairness: least of 28 modest tunnels",  Share, No, No, [], On::Relay, |on| fair::modest_tunnels(on, seconds(on))),
    row!("fairness: modest beside greedy client", Trip,  No, No, [], On::Relay, |on| fair::modest_client(on, on.amount(1000, 20))),

    row!("HTTP/2: UDP echo by capsules",          Packet, No, No, ECHO, On::Relay, |on| udp::echo(on, CAPSULES_H2, 64, amount(on, PACKETS))),
    row!("HTTP/2: TCP to the client, 1 stream",   Gigabyte, At(1.15), At(1.0), [], On::Relay, |on| tcp::to_client(on, H2, 1, amount(on, BYTES))),
    row!("HTTP/2: TCP to the client, 8 streams",  Gigabyte, At(1.15), At(1.0), [], On::Relay, |on| tcp::to_client(on, H2, 8, amount(on, BYTES))),
    row!("HTTP/2: TCP to the target, 1 stream",   Gigabyte, At(1.6), At(1.3), [], On::Relay, |on| tcp::to_target(on, H2, 1, amount(on, BYTES))),
    row!("HTTP/2: TCP to the target, 8 streams",  Gigabyte, At(1.6), At(1.3), [], On::Relay, |on| tcp::to_target(on, H2, 8, amount(on, BYTES))),
    row!("HTTP/2: new connection with a UDP tunnel", Each, No, No, [], On::Relay, |on| setup::connections(on, H2, false, on.amount(1000, 5))),
    row!("HTTP/2: new UDP tunnel",                Each, No, No, [], On::Relay, |on| setup::udp_tunnels(on, H2, on.amount(5000, 20))),
    row!("HTTP/2: new TCP tunnel",                Each, No, No, [], On::Relay, |on| setup::tcp_tunnels(on, H2, on.amount(5000, 20))),
    row!("HTTP/2: memory of a connection with a tunnel", Memory, No, No, [], On::Relay, |on| setup::memory(on, H2, on.amount(1000, 5), 0)),
    row!("HTTP/2: memory of a further tunnel",    Memory, No, No, [], On::Relay, |on| setup::memory(on, H2, on.amount(50, 2), on.amount(20, 2))),
];

/// An echo through the relay is an echo of quinn's and one of UDP's: two packets forwarded, each by the mean of the two.
const ECHO: [&str; 2] = ["floor: bare UDP echo, window 64", "floor: quinn echo, window 64"];
const DOWN: [&str; 1] = ["floor: quinn stream to the client"];
const UP: [&str; 1] = ["floor: quinn stream from the client"];

/// How long shares are looked at.
fn seconds(subject: &Subject) -> Duration {
    Duration::from_secs(subject.amount(5, 1))
}

fn amount(subject: &Subject, (full, quick): (u64, u64)) -> u64 {
    subject.amount(full, quick)
}

/// Rows that are wanted: those whose name contains one of `wanted`, and the floors they need; all for none.
pub(crate) fn selected(wanted: &[String]) -> Result<Vec<&'static Row>, Failure> {
    let named = |row: &Row| wanted.is_empty() || wanted.iter().any(|text| row.name.to_lowercase().contains(&text.to_lowercase()));
    let floors: Vec<_> = ROWS.iter().filter(|row| named(row)).flat_map(|row| row.floor).collect();
    if !ROWS.iter().any(named) {
        let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        return Err(format!("no row is named like that; there are\n  {}", names.join("\n  ")).into());
    }
    Ok(ROWS.iter().filter(|row| named(row) || floors.contains(&&row.name)).collect())
}
