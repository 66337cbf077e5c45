//! A sample graph for measurements: a day of four series.

use jiff::tz::TimeZone;
use rrd::{Span, Step, Timestamp};

use crate::graph::{Frame, Graph, Hue, Line, Size, Unit, draw};

const POINTS: u32 = 1440;
const HUES: [Hue; 4] = [Hue::Blue, Hue::Orange, Hue::Green, Hue::Purple];

/// The SVG of 24 hours at one minute of four series, 800 by 300 pixels.
pub fn render_sample_svg() -> String {
    draw(&sample(), Size { width: 800, height: 300 }, Frame::Inline)
}

fn sample() -> Graph {
    let step = Step::from_secs(60).expect("a minute is not zero");
    let end = Timestamp::from_secs(1_767_268_800);
    let start = end.plus_millis(-86_400_000);
    Graph {
        key: "sample".to_owned(),
        title: "Sample".to_owned(),
        unit: Unit::new("%", 1000),
        stack: false,
        fill: false,
        max: None,
        soft_max: None,
        span: Span::new(start, end).expect("a day ends after it starts"),
        step,
        days: None,
        zone: TimeZone::UTC,
        series: HUES.into_iter().enumerate().map(|(at, hue)| line(at, hue)).collect(),
        left_out: 0,
        thresholds: Vec::new(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "four lines")]
fn line(at: usize, hue: Hue) -> Line {
    let points = (0..POINTS)
        .map(|minute| {
            let turn = f64::from(minute) / 180.0 + at as f64;
            Some(20.0 + 10.0 * turn.sin() + (f64::from(minute) * 7.3).sin() + 10.0 * at as f64)
        })
        .collect();
    let label = format!("series {at}");
    Line { key: label.clone(), label, hue, below: false, points }
}
