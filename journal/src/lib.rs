//! An ordered, durable log of opaque frames.
