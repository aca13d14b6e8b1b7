//! Makes a CA, server leaves and client identities.
