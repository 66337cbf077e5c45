//! Tests of the agent as a whole: its conversation as timelines, at random, and over real connections.

mod loopback;
mod simulation;
mod timelines;
