//! The order of labels as people read them: `web-9` before `web-10`.

use std::cmp::Ordering;

use rrd::Labels;

use crate::columns::Column;

/// Sorts by the values of `labels` in turn, then by all labels.
pub(crate) fn sort(columns: &mut [Column], labels: &[String], descending: bool) {
    columns.sort_by(|a, b| {
        let order = by_labels(&a.labels, &b.labels, labels);
        if descending { order.reverse() } else { order }
    });
}

fn by_labels(a: &Labels, b: &Labels, labels: &[String]) -> Ordering {
    let one =
        |label: &String| order(a.get(label).unwrap_or_default(), b.get(label).unwrap_or_default());
    let mut orders = labels.iter().map(one);
    orders.find(|order| order.is_ne()).unwrap_or_else(|| a.cmp(b))
}

/// Runs of digits compare as numbers, all else letter by letter.
fn order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    while !left.is_empty() && !right.is_empty() {
        let ((one, rest_left), (other, rest_right)) = (run(left), run(right));
        let order = match (digits(one), digits(other)) {
            (Some(a), Some(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
            _ => one.cmp(other),
        };
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (rest_left, rest_right);
    }
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

/// The digits, or all but digits, that a text begins with, and the rest.
fn run(text: &str) -> (&str, &str) {
    let is_number = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != is_number).unwrap_or(text.len());
    text.split_at(end)
}

/// The digits of a number without leading zeroes; `None` of what is none.
fn digits(run: &str) -> Option<&str> {
    run.starts_with(|c: char| c.is_ascii_digit()).then(|| run.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_inside_of_names_count() {
        let mut names = ["web-10", "web-9", "db", "web-09", "web", "", "7", "web-9b", "é1"];
        names.sort_by(|a, b| order(a, b));
        assert_eq!(names, ["", "7", "db", "web", "web-09", "web-9", "web-9b", "web-10", "é1"]);
    }
}
