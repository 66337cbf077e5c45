//! Which readings become which batch, and when a batch leaves.

use super::super::samples;
use super::Stand;
use crate::native::Position;

fn at(seq: u64) -> Position {
    Position { log_epoch: 1, seq }
}

#[test]
fn a_reading_becomes_batch_one_and_leaves_when_durable() {
    let mut stand = Stand::in_memory(3);
    stand.push_zeroes(10, 3);
    assert_eq!(stand.sent(), Some((1, vec![10])));
    stand.spool.accept(1, at(5), at(5));
    assert_eq!((stand.sent(), stand.spool.floor(), stand.spool.len()), (None, 2, 0));
    assert_eq!(stand.spool.byte_count(), 0);
}

#[test]
fn an_unanswered_batch_keeps_its_content_while_others_wait() {
    let mut stand = Stand::in_memory(3);
    stand.push_zeroes(10, 3);
    assert_eq!(stand.sent(), Some((1, vec![10])));
    stand.push_zeroes(20, 3);
    stand.push_zeroes(30, 3);
    assert_eq!(stand.sent(), Some((1, vec![10])));
    stand.spool.accept(1, at(1), at(1));
    assert_eq!(stand.sent(), Some((2, vec![20, 30])));
}

#[test]
fn an_accepted_batch_stays_until_it_is_durable_and_is_not_sent_again() {
    let mut stand = Stand::in_memory(1);
    stand.push_zeroes(10, 1);
    stand.sent();
    stand.spool.accept(1, at(5), at(4));
    assert_eq!((stand.sent(), stand.spool.floor()), (None, 1));
    stand.push_zeroes(20, 1);
    assert_eq!(stand.sent(), Some((2, vec![20])));
    stand.spool.accept(2, at(6), at(6));
    assert_eq!((stand.spool.floor(), stand.spool.len()), (3, 0));
}

#[test]
fn a_server_that_lost_its_tail_gets_it_again() {
    let mut stand = Stand::in_memory(1);
    for number in 1..=3_u64 {
        stand.push_zeroes(number.cast_signed(), 1);
        stand.sent();
        stand.spool.accept(number, at(number), at(0));
    }
    stand.push_zeroes(4, 1);
    assert_eq!(stand.sent(), Some((4, vec![4])));
    assert_eq!(stand.spool.resend_from(2), 2);
    for number in 2..=4 {
        assert_eq!(stand.sent().map(|(number, _)| number), Some(number));
        stand.spool.accept(number, at(number), at(4));
    }
    assert_eq!((stand.spool.floor(), stand.spool.len()), (5, 0));
}

#[test]
fn what_is_asked_for_below_the_floor_starts_at_the_floor() {
    let mut stand = Stand::in_memory(1);
    stand.push_zeroes(1, 1);
    stand.sent();
    stand.spool.accept(1, at(1), at(1));
    stand.push_zeroes(2, 1);
    stand.sent();
    assert_eq!(stand.spool.resend_from(1), 2);
    stand.spool.accept(1, at(1), at(1));
    assert_eq!(stand.sent().map(|(number, _)| number), Some(2), "a late answer is harmless");
}

#[test]
fn a_backlog_travels_in_bounded_batches() {
    let mut stand = Stand::in_memory(1000);
    for at_ms in 0..12 {
        stand.push_zeroes(at_ms, 1000);
    }
    let mut sizes = Vec::new();
    while let Some((number, moments)) = stand.sent() {
        sizes.push(moments.len());
        stand.spool.accept(number, at(number), at(number));
    }
    assert_eq!(sizes, [5, 5, 2]);
}

fn sample_count(stand: &mut Stand) -> Option<(u64, u64)> {
    stand.spool.next(&mut stand.dictionary).map(|batch| (batch.number, samples(&batch.readings)))
}

#[test]
fn a_batch_that_is_too_large_is_halved_down_to_one_sample() {
    let mut stand = Stand::in_memory(2);
    for at_ms in [10, 20, 30] {
        stand.push_zeroes(at_ms, 2);
    }
    for left in [6, 3, 1] {
        // Readings stay whole where they can: three samples fit one reading of two.
        let sent = if left == 3 { 2 } else { left };
        assert_eq!(sample_count(&mut stand), Some((1, sent)));
        stand.spool.split(1);
    }
    assert_eq!(stand.spool.losses().refused, 1, "one sample cannot be halved");
    assert_eq!(stand.sent(), Some((2, vec![10])), "the rest follows in order");
}

#[test]
fn after_a_batch_too_large_the_next_ones_are_small_and_grow_slowly() {
    let mut stand = Stand::in_memory(100);
    stand.push_zeroes(10, 100);
    stand.sent();
    stand.spool.split(1);
    let mut sizes = Vec::new();
    while let Some((number, size)) = sample_count(&mut stand) {
        stand.spool.accept(number, at(number), at(number));
        sizes.push(size);
    }
    assert_eq!((sizes, stand.spool.byte_count()), (vec![50, 50], 0));
    stand.push_zeroes(20, 100);
    assert_eq!(sample_count(&mut stand), Some((3, 54)));
}

#[test]
fn renumbering_starts_at_one_with_everything_in_order() {
    let mut stand = Stand::in_memory(1);
    stand.push_zeroes(10, 1);
    stand.sent();
    stand.spool.accept(1, at(1), at(1));
    stand.push_zeroes(20, 1);
    stand.sent();
    stand.push_zeroes(30, 1);
    stand.spool.renumber();
    assert_eq!(stand.sent(), Some((1, vec![20, 30])));
}
