//! SETTINGS: what is accepted is written and read the same.

use std::collections::HashSet;

use bolero::check;
use masque_relay::proto::{
    codes::h3,
    settings::{H3_DATAGRAM, Settings},
};

use super::{parts, stream};

#[test]
fn what_is_accepted_is_written_and_read_the_same() {
    check!().with_generator(parts()).with_test_time(super::TIME).for_each(|parts| {
        let payload = stream(parts);
        match Settings::parse(&payload) {
            Ok(settings) => {
                let written = settings.encode();
                assert!(written.len() <= payload.len());
                let ids: HashSet<_> = settings.0.iter().map(|(id, _)| id).collect();
                assert_eq!(ids.len(), settings.0.len(), "none stands twice");
                assert!(settings.get(H3_DATAGRAM).is_none_or(|value| value <= 1));
                assert_eq!(Settings::parse(&written), Ok(settings));
            }
            Err(error) => assert!([h3::FRAME_ERROR, h3::SETTINGS_ERROR].contains(&error.code())),
        }
    });
}
