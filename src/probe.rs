//! A small strict HTTP/3 client on raw quinn, with its own framing.
