//! Connections as people read them: a table, and one of them as a timeline.

use crate::{
    cli::report::printable,
    diagnosis::{
        By, Finding, Record, milliseconds,
        record::{DAY, Utc},
        timeline::{Moment, at},
    },
    record::Session,
};

/// The cells of a line.
pub(super) type Row = [String; COLUMNS.len()];

const COLUMNS: [&str; 7] = ["ID", "SINCE (UTC)", "CLIENT", "HTTP", "REQUESTS", "BYTES IN/OUT", "STATE"];
/// What a line has room for when the others are not known yet.
const WIDTHS: [usize; COLUMNS.len()] = [7, 12, 24, 4, 8, 17, 5];

pub(super) fn row(session: &Session) -> Row {
    [
        session.id.clone(),
        time_of_day(session.start),
        session.client.to_string(),
        session.http.map_or("-".into(), |http| http.to_string()),
        session.requests.to_string(),
        format!("{}/{}", session.bytes_in, session.bytes_out),
        printable(&state(session)),
    ]
}

fn state(session: &Session) -> String {
    let how = match (&session.turned_away, &session.close, session.duration_ms) {
        (Some(why), ..) => format!("not let in: {why}"),
        (None, Some(close), Some(ms)) => format!("over after {}: {close}", milliseconds(ms.round())),
        _ => "open".into(),
    };
    match &session.trouble {
        // What it closed with, or why it was not let in, is its first finding most of the time.
        Some(trouble) if session.turned_away.is_none() => format!("{how}; {trouble}"),
        _ => how,
    }
}

fn time_of_day(time: Utc) -> String {
    let clock = crate::diagnosis::record::clock(time.0.rem_euclid(DAY));
    clock[..clock.len() - 3].to_owned()
}

pub(super) fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no connection so far\n".into();
    }
    let mut widths: [usize; COLUMNS.len()] = COLUMNS.map(|name| name.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = laid_out(&COLUMNS.map(str::to_owned), &widths);
    for row in rows {
        text += &laid_out(row, &widths);
    }
    text
}

pub(super) fn heading() -> String {
    line(&COLUMNS.map(str::to_owned))
}

pub(super) fn line(row: &Row) -> String {
    laid_out(row, &WIDTHS)
}

fn laid_out(row: &Row, widths: &[usize]) -> String {
    let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    cells.join("  ").trim_end().to_owned() + "\n"
}

pub(super) fn title(record: &Record) -> String {
    let http = match record.http {
        Some(1) => "HTTP/1.1",
        Some(2) => "HTTP/2",
        Some(3) => "HTTP/3",
        _ if record.negotiation.is_some() => "QUIC",
        _ => "TLS",
    };
    format!("connection {} from {}, {http}, since {}\n\n", record.id.as_deref().unwrap_or("-"), record.client, record.start)
}

/// A line of the timeline; what came from a client is made harmless.
pub(super) fn moment(moment: &Moment) -> String {
    let by = match moment.by {
        By::Client => "client",
        By::Relay => "relay",
        By::Neither => "-",
    };
    format!("{:>11}  {by:<6}  {}\n", at(moment), printable(&moment.what))
}

pub(super) fn moments(moments: &[Moment]) -> String {
    moments.iter().map(moment).collect()
}

/// Beneath the timeline: figures, and what it means.
pub(super) fn end(record: &Record) -> String {
    let mut text = format!("\n{} bytes in, {} out", record.bytes_in, record.bytes_out);
    if let Some(path) = &record.path {
        text += &format!(
            "; round trip {}, MTU {}, {} of {} packets lost, {} received",
            milliseconds((path.rtt_ms * 10.0).round() / 10.0),
            path.mtu,
            path.lost,
            path.sent,
            path.received
        );
    }
    text.push('\n');
    if record.left_out > 0 {
        text += &format!(
            "{} events in the middle were left out for want of room ({} requests in all)\n",
            record.left_out,
            record.requests_in_all.unwrap_or_default()
        );
    }
    if let Some(hello) = &record.hello {
        text += &format!("the client offered: {}\n", printable_lines(&hello.to_string()));
    }
    text += "findings:\n";
    for finding in record.findings() {
        text += &shown(&finding);
    }
    text
}

/// Like [`printable`], but lines stay lines.
fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

fn shown(finding: &Finding) -> String {
    let mut text = format!("  {}\n", printable(&finding.seen));
    if !finding.means.is_empty() {
        text += &format!("    {}: {}\n", finding.certainty.word(), printable(&finding.means));
    }
    if let Some(next) = &finding.next {
        text += &format!("    next: {}\n", printable(next));
    }
    text
}
