//! The log of Apple's client: its framings, its grammar, what it tells of a relay.
