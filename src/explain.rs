//! The log of Apple's client, explained: what it shows, what it cannot show, and what would settle the rest.
//!
//! ```text
//! bytes ─ lines ─▶ line ─ framing ─▶ message ─ grammar ─▶ event ─ story ─▶ attempts ─ join ─▶ with the relay's records ─ diagnosis ─▶ findings
//! ```
//!
//! Three promises:
//!
//! 1. *No line is lost*: each is counted, as understood or not, and those not understood are kept as they are, as far as there is room.
//! 2. *Any bytes, any length*: the log is read as a stream; what is kept is bounded, and says when it was cut.
//! 3. *No certainty that is not there*: see [`diagnosis`](crate::diagnosis).

pub mod errands;
pub mod framing;
pub mod grammar;
pub mod join;
pub mod lines;
pub mod records;
pub mod story;

use std::io::{self, Read};

use serde::Serialize;

use crate::diagnosis::{
    Finding, Record, errno,
    hypotheses::{Joined, Weighed, weigh},
    millis,
};
use framing::{Framing, unframe};
use lines::{Lines, Objects, Piece};
use story::{Step, Story, Tally};

/// What there is to say.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// What became of the lines.
    pub log: Tally,
    /// Connections of any kind that the log tells of.
    pub connections: usize,
    /// The attempts to use a relay.
    pub attempts: Vec<Explained>,
    /// What became of the records, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<Joining>,
    /// What to do to learn what is not known.
    pub errands: Vec<errands::Errand>,
}

/// What became of the records.
#[derive(Debug, Serialize)]
pub struct Joining {
    /// Records read.
    pub records: usize,
    /// Attempts that have one.
    pub joined: usize,
    /// How the clocks stand to each other; none: nothing but time could join them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skew: Option<join::Skew>,
}

/// One attempt to use a relay, explained.
#[derive(Debug, Serialize)]
pub struct Explained {
    /// In one line.
    pub summary: String,
    /// What the log tells.
    #[serde(flatten)]
    pub attempt: story::Attempt,
    /// Its record, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joined: Option<join::Match>,
    /// What is known.
    pub known: Vec<Finding>,
    /// What the relay's record adds.
    pub relay: Vec<Finding>,
    /// What is not known.
    pub not_known: Vec<String>,
    /// Why it may have been, where it broke off without a stated cause: the likeliest first.
    pub hypotheses: Vec<Weighed>,
}

/// Reads a log to its end and explains it, with the relay's records if there are any.
pub fn explain(log: impl Read, records: Option<&[Record]>) -> io::Result<Explanation> {
    let mut story = read(log)?;
    let (attempts, connections) = story.attempts();
    let sights: Vec<_> = attempts.iter().map(|attempt| &attempt.sight).collect();
    let (matches, skew) = join::join(&sights, records.unwrap_or_default(), story.clock);
    let joining = records.map(|records| Joining { records: records.len(), joined: matches.iter().flatten().count(), skew });
    let attempts = attempts.into_iter().zip(matches).map(|(attempt, found)| Explained::new(attempt, found, records.unwrap_or_default()));
    let attempts: Vec<_> = attempts.collect();
    let errands = errands::for_attempts(&attempts);
    Ok(Explanation { attempts, connections, records: joining, log: story.tally, errands })
}

fn read(mut log: impl Read) -> io::Result<Story> {
    let (mut lines, mut objects, mut story) = (Lines::default(), Objects::default(), Story::default());
    let mut buffer = vec![0; READ];
    loop {
        let length = match log.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        lines.feed(&buffer[..length], |line| objects.take(line, is_framed, |piece| tell(&mut story, piece)));
    }
    lines.finish(|line| objects.take(line, is_framed, |piece| tell(&mut story, piece)));
    objects.finish(|piece| tell(&mut story, piece));
    story.tally.cut = lines.cut;
    Ok(story)
}

fn tell(story: &mut Story, piece: Piece) {
    match piece {
        // Some editors put a mark in front of the first line.
        Piece::Text(text, lines) => story.tell(&unframe(text.trim_start_matches('\u{feff}')), lines, &text),
        Piece::Object(object, lines) => story.tell(&framing::object(&object), lines, object.event_message.as_deref().unwrap_or_default()),
        Piece::Between(lines) => story.punctuation(Framing::Json, lines),
    }
}

fn is_framed(line: &str) -> bool {
    unframe(line).framing != Framing::Bare
}

impl Explained {
    fn new(attempt: story::Attempt, found: Option<join::Match>, records: &[Record]) -> Self {
        let sight = &attempt.sight;
        let record = found.as_ref().map(|found| Joined {
            record: &records[found.record],
            certainty: found.certainty,
            other_succeeded: join::other_succeeded(records, found.record),
        });
        Self {
            summary: summary(&attempt),
            known: sight.findings(),
            relay: record.map_or_else(Vec::new, |joined| joined.findings()),
            not_known: if sight.went_wrong() { sight.unknowns(record.is_some()) } else { Vec::new() },
            hypotheses: if sight.broke_off() { weigh(sight, record) } else { Vec::new() },
            joined: found,
            attempt,
        }
    }
}

/// `curl: C1, C2 to relay 192.0.2.1:443, target example.com:443: failed with error 53 (…)`.
fn summary(attempt: &story::Attempt) -> String {
    let sight = &attempt.sight;
    let numbers: Vec<_> = attempt.connections.iter().map(|number| format!("C{number}")).collect();
    let who = if sight.process.is_empty() { String::new() } else { format!("{}: ", sight.process) };
    let to = if attempt.through_relay { "to relay" } else { "to" };
    let relay = sight.relay.as_deref().unwrap_or("(not in the log)");
    let target = sight.target.as_ref().map_or(String::new(), |target| format!(" for {target}"));
    let end = match sight.errno {
        Some(error) => format!("failed with {}", errno(error)),
        None if sight.went_wrong() => "broke off".to_owned(),
        None if sight.ready => "worked".to_owned(),
        None => "the log does not show its end".to_owned(),
    };
    format!("{who}{} {to} {relay}{target}: {end}", numbers.join(", "))
}

/// The steps of `steps` with the time since the first one that has a time, in milliseconds.
pub fn since_first(steps: &[Step]) -> impl Iterator<Item = (&Step, Option<f64>)> {
    let first = steps.iter().find_map(|step| step.at);
    steps.iter().map(move |step| (step, step.at.zip(first).map(|(at, first)| millis(at - first))))
}

const READ: usize = 64 << 10;

#[cfg(test)]
#[path = "explain/tests.rs"]
mod tests;
