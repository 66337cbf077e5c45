//! A sparkline: a series in the space of a word.

use std::fmt::Write;

use super::Hue;
use super::model::runs;
use super::svg::escaped;

const WIDTH: f64 = 96.0;
const HEIGHT: f64 = 22.0;
/// The line must not be cut at the edges.
const MARGIN: f64 = 2.0;

/// A small SVG of `points`, from zero to `top` or to the largest of them.
#[expect(clippy::cast_precision_loss, reason = "points are counted in dozens")]
pub fn sparkline(points: &[Option<f64>], top: Option<f64>, hue: Hue, label: &str) -> String {
    let highest = points.iter().copied().flatten().fold(0.0_f64, f64::max);
    let top = top.unwrap_or(highest * 1.1).max(f64::MIN_POSITIVE);
    let across = (WIDTH - 2.0 * MARGIN) / (points.len().max(2) - 1) as f64;
    let place = |at: usize| {
        let value = points[at].unwrap_or(0.0).clamp(0.0, top);
        let y = HEIGHT - MARGIN - value / top * (HEIGHT - 2.0 * MARGIN);
        (MARGIN + at as f64 * across, y)
    };
    let mut svg = format!(
        "<svg class=\"spark {}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        hue.class(),
        escaped(label),
    );
    for run in runs(points) {
        if run.len() == 1 {
            let (x, y) = place(run.start);
            write!(svg, "<circle class=\"d\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"1.5\"/>")
                .expect("a string takes all");
            continue;
        }
        let mut line = String::new();
        for at in run.clone() {
            let (x, y) = place(at);
            write!(line, "{}{x:.1} {y:.1}", if at == run.start { 'M' } else { 'L' })
                .expect("a string takes all");
        }
        let (first, last) = (place(run.start).0, place(run.end - 1).0);
        let floor = HEIGHT - MARGIN;
        write!(svg, "<path class=\"a\" d=\"{line}L{last:.1} {floor}L{first:.1} {floor}Z\"/>")
            .expect("a string takes all");
        write!(svg, "<path class=\"l\" d=\"{line}\"/>").expect("a string takes all");
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_breaks_the_line_and_a_lone_point_is_a_dot() {
        let x = Some(1.0);
        let svg = sparkline(&[x, x, None, x, None], None, Hue::Blue, "CPU <of> a");
        assert_eq!(svg.matches("class=\"l\"").count(), 1);
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(svg.contains("CPU &lt;of&gt; a") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn nothing_and_all_zero_can_be_drawn() {
        for points in [vec![], vec![None], vec![Some(0.0); 3], vec![Some(0.0)]] {
            let svg = sparkline(&points, None, Hue::Blue, "x");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
