//! The store as its callers see it: grants, frames, rounds, restarts, crashes and damage.
#![expect(clippy::unwrap_used, reason = "a test may stop where something is not as it says")]
#![expect(clippy::cast_precision_loss, reason = "step numbers are small")]
#![expect(clippy::float_cmp, reason = "what was stored comes back to the last bit")]

mod change;
mod check;
mod counters;
mod crash;
mod cut;
mod damage;
mod days;
mod grants;
mod history;
mod late;
mod learned;
mod moments;
mod other;
mod random;
mod repair;
mod restart;
mod restep;
mod reuse;
mod rings;
mod rollup;
mod rot;
mod seams;
mod thin;
mod warm;
mod world;
