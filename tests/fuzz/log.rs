//! Apple's log: whatever the bytes, every line is counted once, and none makes it fall.

use std::io::{self, Read};

use bolero::{TypeGenerator, check};
use masque_relay::{
    diagnosis::{
        Certainty, Finding,
        hypotheses::{Standing, Weighed},
    },
    explain::{Explanation, explain, records, story},
};

#[test]
fn no_line_is_lost() {
    check!().with_test_time(super::TIME).for_each(judge);
}

/// Bytes chosen blindly are hardly ever a line of the log; these often are.
#[test]
fn no_line_of_a_log_is_lost() {
    check!().with_generator(bolero::produce::<Vec<Piece>>().with().len(0..24_usize)).with_test_time(super::TIME).for_each(|pieces| {
        let mut log = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Known(at) => log.extend_from_slice(KNOWN[*at].as_bytes()),
                Piece::Number(number) => log.extend_from_slice(number.to_string().as_bytes()),
                Piece::Noise(bytes) => log.extend_from_slice(bytes),
            }
        }
        judge(&log);
    });
}

/// Records are lines of JSON, or they are not.
#[test]
fn no_record_is_too_strange() {
    check!().with_generator(bolero::produce::<Vec<(u8, Vec<u8>)>>().with().len(0..6_usize)).with_test_time(super::TIME).for_each(|lines| {
        let mut file = Vec::new();
        for (good, noise) in lines {
            file.extend_from_slice(if good % 2 == 0 { RECORD.as_bytes() } else { noise });
            file.push(b'\n');
        }
        let read = records::read(&file[..]).expect("bytes in memory can be read");
        assert!(read.kept.len() >= lines.iter().filter(|(good, _)| good % 2 == 0).count());
        let log = "default 09:43:04.4-0700 curl [C1.1 192.0.2.1:443 in_progress proxy] Privacy proxy failed with error 53\n";
        let explained = explain(log.as_bytes(), Some(&read.kept)).expect("bytes in memory can be read");
        assert!(explained.attempts.iter().filter_map(|attempt| attempt.joined.as_ref()).all(|found| found.record < read.kept.len()));
    });
}

#[derive(Debug, TypeGenerator)]
enum Piece {
    Known(#[generator(0..KNOWN.len())] usize),
    Number(i64),
    Noise(Vec<u8>),
}

const KNOWN: [&str; 33] = [
    "\n",
    "\n",
    "\r\n",
    "default\t09:43:04.459517-0700\tcurl\t",
    "default 23:59:59.9+0800 a ",
    "2026-03-01 09:43:04.459 Df curl[591:1a2b] [com.apple.network:connection] ",
    "2026-03-01 09:43:04.459517-0700 0x1a2b Default 0x0 591 0 curl: (Network) ",
    "Mar  1 09:43:04 iPhone curl(Network)[591] <Notice>: ",
    "[C1.1 IPv4#124bdc4d:80 in_progress proxy (satisfied)] ",
    "nw_x [C1.1.1 <mask.hash: 'a b'>:443 ready socket-flow (satisfied)] ",
    "[C2 E47A3A0C-7275-4F6B-AEDF-59077ABAE34B 192.0.2.1:443 quic] ",
    "[C2 192.0.2.9:1<->192.0.2.1:443]",
    "quic_x [C1.1.1:2] [-010f00aa] [S3] ",
    "Connection 1: failed to connect 3:",
    "Privacy proxy failed with error ",
    "cancelled",
    "cancel",
    "Joined protocol connected (http3)",
    "event: flow:failed_connect @0.1s, error ",
    "sending CONNECTION_CLOSE, code 0x",
    "TLS connected [alpn(",
    "Duration: 0.1s, QUIC @0s took 0s, ",
    "bytes in/out: 2880/",
    "rtt: ",
    "Duration: 9999999999999999999999s, ",
    "read alert, level: fatal, description: ",
    "[{\"eventMessage\":\"",
    "{\"eventMessage\":\"[C1] cancel\",\"timestamp\":\"2026-03-01 09:43:04.4-0700\"}",
    "\"},{",
    "]",
    "[",
    "<",
    "é",
];

const RECORD: &str = r#"{"start":"2026-03-01T16:43:04Z","client":"192.0.2.1:5","close":{"by":"client","layer":"transport","code":8}}"#;

/// A reader that gives little at a time: where it cuts changes nothing.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.0.len().min(7);
        buffer[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

fn judge(bytes: &[u8]) {
    let explanation = explain(bytes, None).expect("bytes in memory can be read");
    let log = &explanation.log;
    let lines = bytes.split(|byte| *byte == b'\n').count() - usize::from(bytes.last().is_none_or(|last| *last == b'\n'));
    assert_eq!(log.lines, lines as u64);
    assert_eq!(log.understood + log.not_understood, log.lines);
    assert_eq!(log.framings.values().sum::<u64>(), log.lines);
    assert!(log.kept.len() <= story::KEPT && log.kept.len() as u64 + log.not_kept >= log.not_understood);
    assert!(explanation.attempts.len() <= story::CONNECTIONS);
    assert!(explanation.attempts.iter().all(|explained| explained.hypotheses.is_empty() || explained.hypotheses.len() == 6));
    for explained in &explanation.attempts {
        // What the numbers of errors mean is what others report: no log makes a certainty of it, nor of a hypothesis without the client's close.
        let sure = |finding: &&Finding| !finding.means.is_empty() && finding.certainty == Certainty::Certain;
        assert!(explained.known.iter().filter(sure).all(|finding| !finding.seen.starts_with("the attempt ended with")));
        let guess = |weighed: &Weighed| weighed.standing == Standing::Stands(Certainty::Possible);
        assert!(explained.attempt.sight.close.is_some() || explained.hypotheses.iter().all(guess));
    }
    let slowly = explain(Slow(bytes), None).expect("bytes in memory can be read");
    assert_eq!(shown(&slowly), shown(&explanation));
}

fn shown(explanation: &Explanation) -> String {
    serde_json::to_string(explanation).expect("an explanation is JSON")
}
