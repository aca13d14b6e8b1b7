//! HTTP/3 frames: what a request stream says, whatever the chunks it comes in.

use bolero::check;
use bytes::Bytes;
use masque_relay::proto::frame::{Body, DATA, FrameError, Frames, HEADERS, HeadReader, Piece, Section};

use super::{chunks, parts, stream};

const LIMIT: usize = 32;

#[test]
fn the_cut_changes_nothing() {
    check!().with_generator((parts(), bolero::produce::<Vec<u8>>())).with_test_time(super::TIME).for_each(|(parts, cuts)| {
        let stream = stream(parts);
        let cut = chunks(&stream, cuts);
        assert_eq!(request(&cut), request(std::slice::from_ref(&stream)));
        assert_eq!(tunnel(&cut), tunnel(std::slice::from_ref(&stream)));
        assert_eq!(frames(&cut), frames(&[stream]));
    });
}

/// The readers say what the frames say they read.
#[test]
fn the_readers_agree_with_the_frames() {
    check!().with_generator((parts(), bolero::produce::<Vec<u8>>())).with_test_time(super::TIME).for_each(|(parts, cuts)| {
        let cut = chunks(&stream(parts), cuts);
        let (frames, at_boundary) = frames(&cut);
        let payloads = |wanted| frames.iter().filter(move |(kind, ..)| *kind == wanted).map(|(.., payload)| &payload[..]);
        if let (Some(Section::Whole(section)), ..) = request(&cut) {
            assert_eq!(payloads(HEADERS).next(), Some(&section[..]));
        }
        let (data, end) = tunnel(&cut);
        if let Ok(()) | Err(FrameError::Truncated) = end {
            assert_eq!(payloads(DATA).collect::<Vec<_>>().concat(), data);
            assert_eq!(end.is_ok(), at_boundary);
        }
    });
}

/// The head, the DATA behind it, the error.
fn request(chunks: &[Bytes]) -> (Option<Section>, Vec<u8>, Result<(), FrameError>) {
    let mut reader = HeadReader::new(LIMIT);
    for (at, chunk) in chunks.iter().enumerate() {
        let mut input = chunk.clone();
        match reader.feed(&mut input) {
            Ok(None) => assert!(input.is_empty()),
            Ok(Some(Section::TooLarge)) => return (Some(Section::TooLarge), vec![], Ok(())),
            Ok(Some(Section::Whole(section))) => {
                assert!(section.len() <= LIMIT);
                let rest: Vec<_> = [input].into_iter().chain(chunks[at + 1..].iter().cloned()).collect();
                let (data, end) = tunnel(&rest);
                return (Some(Section::Whole(section)), data, end);
            }
            Err(error) => return (None, vec![], Err(error)),
        }
    }
    (None, vec![], reader.end())
}

/// The DATA and the error.
fn tunnel(chunks: &[Bytes]) -> (Vec<u8>, Result<(), FrameError>) {
    let mut body = Body::default();
    let mut data = Vec::new();
    for chunk in chunks {
        let mut input = chunk.clone();
        loop {
            match body.next(&mut input) {
                Ok(Some(piece)) => {
                    assert!(!piece.is_empty());
                    data.extend_from_slice(&piece);
                }
                Ok(None) => break,
                Err(error) => return (data, Err(error)),
            }
        }
        assert!(input.is_empty());
    }
    (data, body.end())
}

/// The type, declared length and payload of each frame, and whether the stream may end there.
fn frames(chunks: &[Bytes]) -> (Vec<(u64, u64, Vec<u8>)>, bool) {
    let mut reader = Frames::default();
    let mut frames: Vec<(u64, u64, Vec<u8>)> = Vec::new();
    for chunk in chunks {
        let mut input = chunk.clone();
        while let Some(piece) = reader.next(&mut input) {
            match (piece, frames.last_mut()) {
                (Piece::Start { kind, length }, _) => frames.push((kind, length, vec![])),
                (Piece::Payload(piece), Some((.., payload))) => payload.extend_from_slice(&piece),
                (Piece::End, Some((_, length, payload))) => assert_eq!(payload.len() as u64, *length),
                (Piece::Payload(_) | Piece::End, None) => panic!("a payload without a frame"),
            }
        }
        assert!(input.is_empty());
    }
    (frames, reader.at_boundary())
}
