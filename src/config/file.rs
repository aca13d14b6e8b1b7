//! Configuration as written: TOML, every key optional, unknown keys refused.
