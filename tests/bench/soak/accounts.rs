//! What the relay says against what the load counted.

use std::sync::atomic::Ordering::Relaxed;

use masque_relay::metrics::Sample;

use super::{
    Look,
    load::{Count, Ledger},
};

/// The relay's process after the load.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) relay: Vec<Sample>,
    /// At first and at last.
    pub(super) descriptors: [usize; 2],
    pub(super) kernel_dropped: u64,
}

/// One thing that must hold.
pub(super) struct Account {
    pub(super) what: &'static str,
    pub(super) found: String,
    pub(super) allowed: String,
    pub(super) fits: bool,
}

impl Seen {
    /// The sum of all samples of this name and with this label.
    fn sum(&self, name: &str, label: Option<(&str, &str)>) -> u64 {
        let has = |sample: &&Sample| {
            sample.name == name && label.is_none_or(|(key, value)| sample.labels.get(key).is_some_and(|other| other == value))
        };
        self.relay.iter().filter(has).map(|sample| sample.value).sum()
    }
}

/// Every account, whether it fits or not.
pub(super) fn judge(ledger: &Ledger, seen: &Seen, looks: &[Look], quick: bool) -> Vec<Account> {
    let mut accounts = Vec::new();
    let mut add = |what, found: String, allowed: String, fits| accounts.push(Account { what, found, allowed, fits });

    let second_half = &looks[looks.len() / 2..];
    let growth = slope(second_half) * (second_half[second_half.len() - 1].at - second_half[0].at);
    let allowed = if quick { GROWTH_QUICK } else { GROWTH };
    add("memory: growth in the second half", mib(growth), format!("{} at most", mib(allowed)), growth <= allowed);

    for (what, of, slack, show) in [
        ("queues: round trip", (|look: &Look| look.trip) as fn(&Look) -> f64, SLACK_TRIP, ms as fn(f64) -> String),
        ("queues: bytes in UDP sockets", |look: &Look| look.queued, SLACK_BYTES, mib),
    ] {
        let quarter = looks.len() / 4;
        let (before, last) = (median(&looks[quarter..2 * quarter], of), median(&looks[looks.len() - quarter..], of));
        let most = 2.0 * before.max(0.0) + slack;
        add(what, format!("{}, {} before", show(last), show(before)), format!("{} at most", show(most)), last <= most);
    }

    let [first, last] = seen.descriptors;
    add("descriptors at the end", last.to_string(), format!("{first} as at first"), last == first);
    for (what, name) in [("connections open at the end", "connections_open"), ("tunnels open at the end", "tunnels_open")] {
        let open = seen.sum(name, None);
        add(what, open.to_string(), "0".into(), open == 0);
    }

    let [opened, cancelled, connections] = [&ledger.tunnels, &ledger.cancelled, &ledger.connections].map(|count| count.load(Relaxed));
    let exactly = |asked: u64, most: u64| if asked == most { asked.to_string() } else { format!("{asked} to {most}") };
    for (what, found, asked, most) in [
        ("connections", seen.sum("connections_total", None), connections, connections),
        // One that is cancelled at once may have had its tunnel, or never have been seen.
        ("tunnels", seen.sum("tunnels_total", None), opened, opened + cancelled),
        ("requests: ended + refused", seen.sum("ended_total", None) + seen.sum("refused_total", None), opened, opened + cancelled),
    ] {
        add(what, found.to_string(), exactly(asked, most), (asked..=most).contains(&found));
    }

    // A packet of QUIC that is lost takes as many datagrams with it as it holds; a change of address may cost the one that is on its way.
    let may_miss =
        (seen.kernel_dropped + ledger.lost.load(Relaxed)) * PER_PACKET + ledger.neglected.load(Relaxed) + ledger.moves.load(Relaxed);
    let [sent, arrived, answered, returned] = [&ledger.sent, &ledger.arrived, &ledger.answered, &ledger.returned].map(Count::now);
    let carried = |way| ["udp_packets_total", "udp_bytes_total"].map(|name| seen.sum(name, Some(("way", way))));
    let dropped = |way| seen.sum("udp_dropped_total", Some(("way", way)));
    let (out, back) = (carried("out"), carried("back"));
    for (what, one, other, dropped) in [
        ("UDP out: sent = relayed + dropped", sent, out, dropped("out")),
        ("UDP out: relayed = arrived", out, arrived, 0),
        ("UDP back: answered = relayed + dropped", answered, back, dropped("back")),
        ("UDP back: relayed = returned", back, returned, 0),
    ] {
        let [packets, bytes] = [0, 1].map(|at| one[at].cast_signed() - other[at].cast_signed());
        let missing = packets - dropped.cast_signed();
        let fits = (0..=may_miss.cast_signed()).contains(&missing) && (0..=packets * LARGEST).contains(&bytes);
        let dropped = if dropped == 0 { String::new() } else { format!(" + {dropped}") };
        add(what, format!("{} = {}{dropped}, {missing} missing", one[0], other[0]), format!("0 to {may_miss} missing"), fits);
    }
    for (what, way, carried) in [("TCP out: bytes", "out", &ledger.tcp[0]), ("TCP back: bytes", "back", &ledger.tcp[1])] {
        let (relayed, carried) = (seen.sum("tcp_bytes_total", Some(("way", way))), carried.load(Relaxed));
        add(what, relayed.to_string(), carried.to_string(), relayed == carried);
    }
    accounts
}

/// What was done, and every account.
pub(super) fn table(accounts: &[Account], ledger: &Ledger, seen: &Seen, looks: &[Look]) -> String {
    let (Some(first), Some(last)) = (looks.first(), looks.last()) else { return String::new() };
    let busy = looks.iter().map(|look| look.busy).sum::<f64>() / looks.len() as f64;
    let reasons: Vec<_> = (seen.relay.iter())
        .filter(|sample| sample.name == "udp_dropped_total" && sample.value > 0)
        .map(|sample| format!("{} {} {}", sample.value, sample.labels["way"], sample.labels["why"]))
        .collect();
    let mut table = format!(
        "{:.0} s, {:.0} % of the relay's core; memory {} at first, {} at last, at most {}\n\
         {} changes of address; dropped by the relay: {}; by the kernel: {}; lost by clients: {} packets, {} datagrams\n\n",
        last.at,
        busy * 100.0,
        mib(first.memory),
        mib(last.memory),
        mib(looks.iter().map(|look| look.memory).fold(0.0, f64::max)),
        ledger.moves.load(Relaxed),
        if reasons.is_empty() { "nothing".into() } else { reasons.join(", ") },
        seen.kernel_dropped,
        ledger.lost.load(Relaxed),
        ledger.neglected.load(Relaxed),
    );
    for Account { what, found, allowed, fits } in accounts {
        table += &format!("{what:<39} {found:<44} {allowed:<28} {}\n", if *fits { "ok" } else { "FAIL" });
    }
    table
}

/// Of memory, bytes a second: the line that fits best.
fn slope(looks: &[Look]) -> f64 {
    let count = looks.len() as f64;
    let [at, memory] = [|look: &Look| look.at, |look: &Look| look.memory].map(|of| looks.iter().map(of).sum::<f64>() / count);
    let rise: f64 = looks.iter().map(|look| (look.at - at) * (look.memory - memory)).sum();
    let run: f64 = looks.iter().map(|look| (look.at - at).powi(2)).sum();
    rise / run
}

fn median(looks: &[Look], of: fn(&Look) -> f64) -> f64 {
    let mut all: Vec<_> = looks.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn mib(bytes: f64) -> String {
    format!("{:.2} MiB", bytes / 1_048_576.0)
}

fn ms(trip: f64) -> String {
    format!("{trip:.1} ms")
}

/// Bytes by which memory may seem to grow: a burst in which more waits than ever before leaves a step of two or three MiB in what the allocator keeps.
const GROWTH: f64 = 4.0 * 1_048_576.0;
/// In ten seconds nothing is full yet, the ring of records (4 MiB) least of all.
const GROWTH_QUICK: f64 = 8.0 * 1_048_576.0;

/// Queues may be so much longer at the end than twice what they were, milliseconds and bytes: a busy machine stops for a moment.
const SLACK_TRIP: f64 = 100.0;
const SLACK_BYTES: f64 = 524_288.0;

/// Datagrams in a packet at most, and payload of a datagram at most, as this load sends them.
const PER_PACKET: u64 = 9;
const LARGEST: i64 = 1200;
