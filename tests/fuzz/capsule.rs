//! Capsules: the same ones, whatever the chunks they come in.

use bolero::check;
use bytes::Bytes;
use masque_relay::proto::capsule::{Capsule, CapsuleError, Capsules, MAX_DATAGRAM};

use super::{chunks, parts, stream};

#[test]
fn the_cut_changes_nothing() {
    check!().with_generator((parts(), bolero::produce::<Vec<u8>>())).with_test_time(super::TIME).for_each(|(parts, cuts)| {
        let stream = stream(parts);
        assert_eq!(capsules(&chunks(&stream, cuts)), capsules(&[stream]));
    });
}

fn capsules(chunks: &[Bytes]) -> (Vec<Capsule>, Result<(), CapsuleError>) {
    let mut reader = Capsules::default();
    let mut capsules = Vec::new();
    for chunk in chunks {
        let mut input = chunk.clone();
        loop {
            match reader.next(&mut input) {
                Ok(Some(capsule)) => capsules.push(capsule),
                Ok(None) => break,
                Err(error) => {
                    assert!(matches!(error, CapsuleError::TooLong(length) if length > MAX_DATAGRAM));
                    return (capsules, Err(error));
                }
            }
        }
        assert!(input.is_empty());
    }
    (capsules, reader.end())
}
