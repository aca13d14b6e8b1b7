//! Bytes to lines, and lines of pretty-printed JSON to objects. Both are bounded: a line or an object that is longer is cut, and counted.

use serde::Deserialize;

/// The longest line that is read whole. A line of Apple's log has some hundred bytes, an object with a backtrace some thousand.
pub const LONGEST: usize = 64 << 10;

/// Cuts a stream into lines, whatever the size of its pieces.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
    /// How many lines were longer than [`LONGEST`]: their rest is not looked at.
    pub cut: u64,
    overlong: bool,
}

impl Lines {
    /// Gives every line that ends in `bytes`, without its end.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        let mut pieces = bytes.split(|byte| *byte == b'\n');
        let last = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            self.add(piece);
            self.give(&mut each);
        }
        self.add(last);
    }

    /// Gives the last line, if no line feed ended it.
    pub fn finish(&mut self, mut each: impl FnMut(&str)) {
        if !self.partial.is_empty() || self.overlong {
            self.give(&mut each);
        }
    }

    fn add(&mut self, piece: &[u8]) {
        let room = LONGEST - self.partial.len();
        self.overlong |= piece.len() > room;
        self.partial.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    fn give(&mut self, each: &mut impl FnMut(&str)) {
        self.cut += u64::from(std::mem::take(&mut self.overlong));
        let line = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        each(&String::from_utf8_lossy(line));
        self.partial.clear();
    }
}

/// An object of `log show --style json` or `ndjson`, as far as it is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Object {
    /// The message; may have several lines.
    pub event_message: Option<String>,
    /// `2026-03-01 09:43:04.459517-0700`.
    pub timestamp: Option<String>,
    /// The path of the program.
    pub process_image_path: Option<String>,
    /// Its number.
    #[serde(rename = "processID")]
    pub process_id: Option<u32>,
}

/// What a reader of JSON makes of lines. The number says how many of the log's lines it stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Nothing of JSON: to be looked at as it is.
    Text(String, u64),
    /// An object with a message.
    Object(Box<Object>, u64),
    /// Punctuation between objects.
    Between(u64),
}

/// Puts objects together from lines.
#[derive(Debug, Default)]
pub struct Objects {
    /// The object so far, each of its lines with how many lines of the log it stands for: the start of one may share a line with the end of another.
    open: Vec<(String, u64)>,
    size: usize,
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// An object was seen: lone punctuation is JSON's.
    seen: bool,
}

impl Objects {
    /// Takes the next line. `is_framed` tells whether a line has a framing of its own, and so cannot be inside an object.
    pub fn take(&mut self, line: &str, is_framed: impl Fn(&str) -> bool, mut each: impl FnMut(Piece)) {
        if !self.open.is_empty() && is_framed(line) {
            self.give_up(&mut each);
        }
        let (mut rest, mut lines) = (line, 1);
        loop {
            if self.open.is_empty() {
                let start = rest.trim_start_matches(['[', ']', ',', ' ', '\t']);
                if start.is_empty() && !rest.is_empty() && (self.seen || rest.trim() == "[") {
                    return each(Piece::Between(lines));
                }
                // `[{` starts an array of objects, `[C1 {` does not; text behind an object is no object.
                if !start.starts_with('{') {
                    return each(Piece::Text(rest.to_owned(), lines));
                }
                rest = start;
            }
            let end = self.end_in(rest);
            self.size += rest.len() + 1;
            self.open.push((rest[..end.unwrap_or(rest.len())].to_owned(), lines));
            let Some(end) = end else { break };
            self.close(&mut each);
            (rest, lines) = (&rest[end..], 0);
            if rest.trim_matches(['[', ']', ',', ' ', '\t']).is_empty() {
                break;
            }
        }
        if self.size > LONGEST {
            self.give_up(&mut each);
        }
    }

    /// Gives the lines of an object that never ended.
    pub fn finish(&mut self, mut each: impl FnMut(Piece)) {
        self.give_up(&mut each);
    }

    /// The object is complete: is it one of a log?
    fn close(&mut self, each: &mut impl FnMut(Piece)) {
        let text: Vec<_> = self.open.iter().map(|(text, _)| text.as_str()).collect();
        match serde_json::from_str::<Object>(&text.join("\n")) {
            Ok(object) if object.event_message.is_some() => {
                self.seen = true;
                each(Piece::Object(Box::new(object), self.open.iter().map(|(_, lines)| lines).sum()));
                self.clear();
            }
            _ => self.give_up(each),
        }
    }

    fn give_up(&mut self, each: &mut impl FnMut(Piece)) {
        for (text, lines) in std::mem::take(&mut self.open) {
            each(Piece::Text(text, lines));
        }
        self.clear();
    }

    fn clear(&mut self) {
        *self = Self { seen: self.seen, ..Self::default() };
    }

    /// Where the object ends in this line, just behind its brace.
    fn end_in(&mut self, line: &str) -> Option<usize> {
        // No string goes over the end of a line.
        (self.in_string, self.escaped) = (false, false);
        for (at, byte) in line.bytes().enumerate() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'{' if !self.in_string => self.depth += 1,
                b'}' if !self.in_string => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::any, prop_assert_eq, proptest};

    use super::*;

    fn lines(pieces: &[&[u8]]) -> (Vec<String>, u64) {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.feed(piece, |line| all.push(line.to_owned()));
        }
        lines.finish(|line| all.push(line.to_owned()));
        (all, lines.cut)
    }

    #[test]
    fn an_overlong_line_is_cut_and_counted() {
        let long = vec![b'x'; 3 * LONGEST];
        let (all, cut) = lines(&[b"a\r\n", &long, &long, b"\nb"]);
        assert_eq!((all.len(), all[0].as_str(), all[1].len(), all[2].as_str(), cut), (3, "a", LONGEST, "b", 1));
        assert_eq!(lines(&[&long]).1, 1);
        assert_eq!(lines(&[b"\n\n"]).0, ["", ""]);
    }

    proptest! {
        #[test]
        fn the_size_of_the_pieces_changes_nothing(bytes in vec(any::<u8>(), 0..200), at in 0..200_usize) {
            let (front, back) = bytes.split_at(at.min(bytes.len()));
            prop_assert_eq!(lines(&[front, back]), lines(&[&bytes]));
        }
    }

    fn pieces(text: &str) -> Vec<Piece> {
        let (mut objects, mut all) = (Objects::default(), Vec::new());
        for line in text.lines() {
            objects.take(line, |line| line.starts_with("default"), |piece| all.push(piece));
        }
        objects.finish(|piece| all.push(piece));
        all
    }

    fn object(message: &str, lines: u64) -> Piece {
        Piece::Object(Box::new(Object { event_message: Some(message.into()), ..Object::default() }), lines)
    }

    #[test]
    fn objects_are_found_however_they_are_laid_out() {
        let a = |message: &str| format!(r#"{{"eventMessage":"{message}"}}"#);
        for text in [
            format!("{}\n{}", a("x"), a("y")),
            "[{\n  \"eventMessage\" : \"x\"\n},{\n  \"eventMessage\" : \"y\"\n}]".to_owned(),
            "[\n{\n  \"eventMessage\" : \"x\"\n},\n{ \"eventMessage\" : \"y\"\n}\n]".to_owned(),
            format!("[{},{}]", a("x"), a("y")),
        ] {
            let got = pieces(&text);
            let messages = got.iter().filter_map(|piece| match piece {
                Piece::Object(object, _) => object.event_message.clone(),
                _ => None,
            });
            assert_eq!(messages.collect::<Vec<_>>(), ["x", "y"], "{text}");
            let counted: u64 = got
                .iter()
                .map(|piece| match piece {
                    Piece::Text(_, lines) | Piece::Object(_, lines) | Piece::Between(lines) => lines,
                })
                .sum();
            assert_eq!(counted, text.lines().count() as u64, "{text}: {got:?}");
        }
        assert_eq!(pieces(r#"{"eventMessage":"a } \" {","source":{"x":1}}"#), [object("a } \" {", 1)]);
    }

    #[test]
    fn what_is_no_object_is_given_back() {
        let text = |text: &str| Piece::Text(text.into(), 1);
        assert_eq!(pieces("{ so\n it goes\ndefault x"), [text("{ so"), text(" it goes"), text("default x")]);
        assert_eq!(pieces("{}\n{\"a\":1}"), [text("{}"), text("{\"a\":1}")]);
        assert_eq!(pieces("[C1 x] {"), [text("[C1 x] {")]);
        assert_eq!(pieces("{ open"), [text("{ open")]);
        let long = format!("{{\n{}", "y\n".repeat(LONGEST));
        assert_eq!(pieces(&long).len(), 1 + LONGEST);
    }
}
