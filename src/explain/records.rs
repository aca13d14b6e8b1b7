//! The relay's records of a file: a line of JSON each. What cannot be read is counted, and the rest used.

use std::{
    collections::VecDeque,
    io::{self, Read},
};

use super::lines::Lines;
use crate::diagnosis::Record;

/// What a file held.
#[derive(Debug, Default)]
pub struct Records {
    /// The last of its records, in its order.
    pub kept: Vec<Record>,
    /// Earlier ones, for which there was no room.
    pub dropped: u64,
    /// Lines that are no records.
    pub unreadable: u64,
    /// The first of those: its number, and why.
    pub first_unreadable: Option<(u64, String)>,
}

/// Reads them to the end.
pub fn read(mut file: impl Read) -> io::Result<Records> {
    let (mut lines, mut records, mut kept, mut number) = (Lines::default(), Records::default(), VecDeque::new(), 0);
    let mut each = |line: &str| {
        number += 1;
        if line.trim().is_empty() {
            return;
        }
        match serde_json::from_str(line) {
            Ok(record) => {
                if kept.len() == MOST {
                    drop(kept.pop_front());
                    records.dropped += 1;
                }
                kept.push_back(record);
            }
            Err(error) => {
                records.unreadable += 1;
                records.first_unreadable.get_or_insert((number, error.to_string()));
            }
        }
    };
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => lines.feed(&buffer[..length], &mut each),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    lines.finish(&mut each);
    records.kept = kept.into();
    Ok(records)
}

/// At 4 KiB each, 16 MiB.
pub const MOST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_record_is_counted_and_the_last_ones_are_kept() {
        let line = |port: usize| format!("{{\"start\":\"2026-03-01T16:43:04Z\",\"client\":\"192.0.2.1:{port}\"}}\n");
        let text: String = (1..=MOST + 2).map(line).chain(["\n{\"start\":1}\nno\n".to_owned()]).collect();
        let records = read(text.as_bytes()).unwrap();
        assert_eq!((records.kept.len(), records.dropped, records.unreadable), (MOST, 2, 2));
        assert_eq!(records.kept[0].client.port(), 3);
        let (number, why) = records.first_unreadable.unwrap();
        assert_eq!(number, MOST as u64 + 4);
        assert!(why.contains("expected a string"), "{why}");
    }
}
