//! The order of labels as people read them: `web-9` before `web-10`.

use std::cmp::Ordering;

use crate::columns::Column;

/// Sorts by the values of `labels` in turn, then by all labels.
pub(crate) fn sort(columns: &mut [Column], labels: &[String], descending: bool) {
    columns.sort_by(|a, b| {
        let of = |column: &'_ Column, label: &str| {
            column.labels.get(label).unwrap_or_default().to_owned()
        };
        let by_label = labels.iter().map(|label| order(&of(a, label), &of(b, label)));
        let order =
            by_label.fold(Ordering::Equal, Ordering::then).then_with(|| a.labels.cmp(&b.labels));
        if descending { order.reverse() } else { order }
    });
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
