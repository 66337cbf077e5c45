//! The drawing of a graph: plot box, grid, areas, lines and dots, through plotters.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt::Write;
use std::rc::Rc;

use plotters::coord::types::RangedCoordf64;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::element::Circle;
use plotters::prelude::{BLACK, Cartesian2d, DrawingArea, IntoFont, PathElement, Polygon};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{ShapeStyle, TextStyle};

use super::model::{Graph, Line, Severity, runs};
use super::svg::{Canvas, FINE, escaped};
use super::ticks::{ValueAxis, time_ticks, value_axis};
use super::{Theme, palette};

/// Pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Across, within [`Size::LEAST`] and [`Size::MOST`].
    pub width: u32,
    /// Down.
    pub height: u32,
}

impl Size {
    /// Smaller, the labels cover the plot.
    pub const LEAST: Self = Self { width: 200, height: 80 };
    /// Larger than any screen; a bound on work asked for by a URL.
    pub const MOST: Self = Self { width: 4000, height: 2000 };

    /// The nearest size that can be drawn.
    #[must_use]
    pub fn within_limits(self) -> Self {
        Self {
            width: self.width.clamp(Self::LEAST.width, Self::MOST.width),
            height: self.height.clamp(Self::LEAST.height, Self::MOST.height),
        }
    }
}

/// What surrounds the drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Part of a page, whose style sheet has the colours.
    Inline,
    /// A document of its own, with its own style, title and background.
    Standalone(Theme),
}

/// The rules of a graph's parts, shared by pages and standalone images.
pub const GRAPH_CSS: &str = include_str!("../../assets/graph.css");

const FONT_HEIGHT: f64 = 11.0;
/// Room for `888 GiB` left of the plot: the same on every graph, so that times line up.
const LEFT: i32 = 62;
const RIGHT: i32 = 14;
const TOP: i32 = 10;
const BOTTOM: i32 = 22;
/// A standalone image has its title above the plot.
const TITLE: i32 = 20;

type Area = DrawingArea<Canvas, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = Result<(), DrawingAreaErrorKind<Infallible>>;

/// Where the plot stands in the image, in pixels.
#[derive(Clone, Copy)]
struct PlotBox {
    left: i32,
    top: i32,
    right: i32,
    bottom: i32,
}

/// Draws `graph` as SVG.
pub fn draw(graph: &Graph, size: Size, frame: Frame) -> String {
    let size = size.within_limits();
    let inside = PlotBox::of(size, frame);
    let axis = axis_of(graph, f64::from(inside.bottom - inside.top));
    let canvas = Rc::new(RefCell::new(Canvas::new(size.width, size.height)));
    canvas.borrow_mut().raw(&head(graph, size, frame, inside, &axis));
    // The canvas is a string in memory: writing to it cannot fail.
    let drawn = Plot::new(graph, inside, &axis, &canvas).draw();
    debug_assert!(drawn.is_ok(), "drawing into memory failed");
    canvas.borrow_mut().raw("</svg>");
    let canvas = std::mem::replace(&mut *canvas.borrow_mut(), Canvas::new(0, 0));
    canvas.into_text()
}

impl PlotBox {
    fn of(size: Size, frame: Frame) -> Self {
        let title = if matches!(frame, Frame::Standalone(_)) { TITLE } else { 0 };
        Self {
            left: LEFT,
            top: TOP + title,
            right: size.width.cast_signed() - RIGHT,
            bottom: size.height.cast_signed() - BOTTOM,
        }
    }
}

/// The root element up to the first group.
fn head(graph: &Graph, size: Size, frame: Frame, plot: PlotBox, axis: &ValueAxis) -> String {
    let mut svg = String::new();
    let key = escaped(&graph.key);
    let Size { width, height } = size;
    let (x0, x1) = (graph.span.start(), graph.span.end());
    let (w, h) = (plot.right - plot.left, plot.bottom - plot.top);
    write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"graph\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" aria-labelledby=\"t-{key} d-{key}\" data-x0=\"{x0}\" data-x1=\"{x1}\" \
         data-y0=\"{}\" data-y1=\"{}\" data-step=\"{}\" data-plot=\"{} {} {w} {h}\"",
        axis.low,
        axis.high,
        graph.step.as_millis(),
        plot.left,
        plot.top,
    ).expect("a string takes all");
    if let Frame::Standalone(theme) = frame {
        write!(svg, " width=\"{width}\" height=\"{height}\"><style>{}</style>", style(theme))
            .expect("a string takes all");
        write!(svg, "<rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>")
            .expect("a string takes all");
    } else {
        svg.push('>');
    }
    let title = escaped(&graph.title);
    write!(svg, "<title id=\"t-{key}\">{title}</title>").expect("a string takes all");
    write!(svg, "<desc id=\"d-{key}\">{}</desc>", escaped(&graph.sentence()))
        .expect("a string takes all");
    if frame != Frame::Inline {
        write!(svg, "<text class=\"title\" x=\"{LEFT}\" y=\"20\">{title}</text>")
            .expect("a string takes all");
    }
    write!(
        svg,
        "<clipPath id=\"c-{key}\"><rect x=\"{}\" y=\"{}\" width=\"{w}\" height=\"{}\"/></clipPath>",
        plot.left,
        plot.top - 1,
        h + 2,
    )
    .expect("a string takes all");
    svg
}

/// The style sheet of a standalone image.
fn style(theme: Theme) -> String {
    let light =
        format!("--paper:#fff;--ink:#1b2127;--mute:#5d6772;{}", palette::css_variables(false));
    let dark =
        format!("--paper:#14181d;--ink:#e4e9ee;--mute:#98a3b0;{}", palette::css_variables(true));
    let variables = match theme {
        Theme::Light => format!("svg{{{light}}}"),
        Theme::Dark => format!("svg{{{dark}}}"),
        Theme::Auto => {
            format!("svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}")
        }
    };
    format!("{variables}{}{GRAPH_CSS}", palette::css_classes())
}

/// The y axis that holds every point, zero included, and each threshold near them.
fn axis_of(graph: &Graph, height: f64) -> ValueAxis {
    let mut low = 0.0_f64;
    let mut high = graph.soft_max.unwrap_or(0.0);
    let sums = stack_tops(graph);
    for (line, tops) in graph.series.iter().zip(&sums) {
        for value in line.points.iter().zip(tops).filter_map(|(point, top)| point.map(|_| *top)) {
            let value = if line.below { -value } else { value };
            low = low.min(value);
            high = high.max(value);
        }
    }
    for threshold in &graph.thresholds {
        // A limit far away would flatten the graph; it shows up once it is near.
        if threshold.value <= high * 2.0 {
            high = high.max(threshold.value);
        }
    }
    match graph.max {
        Some(max) => value_axis(low, max, true, height, &graph.unit),
        None => value_axis(low, high, false, height, &graph.unit),
    }
}

/// For each series the height of its upper edge: its own values, or with all known below added.
fn stack_tops(graph: &Graph) -> Vec<Vec<f64>> {
    let mut floor = vec![0.0; graph.series.iter().map(|line| line.points.len()).max().unwrap_or(0)];
    graph
        .series
        .iter()
        .map(|line| {
            let own = line.points.iter().enumerate();
            own.map(|(at, point)| {
                let value = point.unwrap_or(0.0);
                if !graph.stack {
                    return value;
                }
                floor[at] += value;
                floor[at]
            })
            .collect()
        })
        .collect()
}

/// One drawing in the making.
struct Plot<'a> {
    graph: &'a Graph,
    axis: &'a ValueAxis,
    inside: PlotBox,
    canvas: &'a Rc<RefCell<Canvas>>,
    area: Area,
}

impl<'a> Plot<'a> {
    #[expect(clippy::cast_precision_loss, reason = "a span is far below 2^52 ms")]
    fn new(
        graph: &'a Graph,
        inside: PlotBox,
        axis: &'a ValueAxis,
        canvas: &'a Rc<RefCell<Canvas>>,
    ) -> Self {
        let length = graph.span.end().millis_since(graph.span.start()).max(1) as f64;
        let across = inside.left * FINE..inside.right * FINE;
        let up = inside.bottom * FINE..inside.top * FINE;
        let coordinates = Cartesian2d::new(0.0..length, axis.low..axis.high, (across, up));
        let area = DrawingArea::from(canvas).apply_coord_spec(coordinates);
        Self { graph, axis, inside, canvas, area }
    }

    fn draw(&self) -> Drawn {
        self.grid()?;
        let key = escaped(&self.graph.key);
        self.within(&format!("class=\"plot\" clip-path=\"url(#c-{key})\""), || {
            if self.graph.stack { self.layers() } else { self.lines() }
        })?;
        self.thresholds()?;
        if self.graph.is_blank() {
            self.blank_note()?;
        }
        Ok(())
    }

    /// Draws `inner` in a group with these attributes.
    fn within(&self, attributes: &str, inner: impl FnOnce() -> Drawn) -> Drawn {
        self.canvas.borrow_mut().open(attributes);
        inner()?;
        self.canvas.borrow_mut().close();
        Ok(())
    }

    fn grid(&self) -> Drawn {
        let PlotBox { left, right, top, bottom } = self.inside;
        let width = f64::from(right - left);
        let times = time_ticks(self.graph.span, &self.graph.zone, width);
        self.within("class=\"grid\"", || {
            for tick in times.iter().filter(|tick| tick.at >= self.graph.span.start()) {
                let x = crisp(self.pixel(self.x(tick.at), 0.0).0);
                let minor = tick.label.is_empty();
                self.canvas.borrow_mut().raw(if minor { "<g class=\"minor\">" } else { "<g>" });
                self.segment((x, top * FINE), (x, bottom * FINE))?;
                self.canvas.borrow_mut().close();
            }
            for tick in self.axis.ticks.iter().filter(|tick| tick.value <= self.axis.high) {
                let y = crisp(self.pixel(0.0, tick.value).1);
                let zero = tick.value == 0.0;
                self.canvas.borrow_mut().raw(if zero { "<g class=\"zero\">" } else { "<g>" });
                self.segment((left * FINE, y), (right * FINE, y))?;
                self.canvas.borrow_mut().close();
            }
            Ok(())
        })?;
        self.within("class=\"axis axis-y\"", || {
            for tick in self.axis.ticks.iter().filter(|tick| tick.value <= self.axis.high) {
                let y = self.pixel(0.0, tick.value).1;
                self.text(&tick.label, ((left - 7) * FINE, y), HPos::Right, VPos::Center)?;
            }
            Ok(())
        })?;
        self.within("class=\"axis axis-x\"", || {
            for tick in times.iter().filter(|tick| !tick.label.is_empty()) {
                let x = self.pixel(self.x(tick.label_at), 0.0).0;
                // A label whose half would leave the image is left out.
                let half = i32::try_from(tick.label.chars().count()).unwrap_or(0) * 13 * FINE / 4;
                if x - half < 0 || x + half > (right + RIGHT) * FINE {
                    continue;
                }
                self.canvas.borrow_mut().raw(if tick.strong {
                    "<g class=\"strong\">"
                } else {
                    "<g>"
                });
                self.text(&tick.label, (x, (bottom + 7) * FINE), HPos::Center, VPos::Top)?;
                self.canvas.borrow_mut().close();
            }
            Ok(())
        })
    }

    /// Areas on each other; an unknown point is a gap in its own layer only.
    fn layers(&self) -> Drawn {
        let tops = stack_tops(self.graph);
        for (at, line) in self.graph.series.iter().enumerate() {
            let base = |point: usize| if at == 0 { 0.0 } else { tops[at - 1][point] };
            self.series(line, || {
                for run in runs(&line.points) {
                    let upper: Vec<(f64, f64)> = self.edge(run.clone(), |point| tops[at][point]);
                    let lower = self.edge(run, base).into_iter().rev();
                    let corners: Vec<_> = upper.iter().copied().chain(lower).collect();
                    self.area.draw(&Polygon::new(corners, ink()))?;
                    self.area.draw(&PathElement::new(upper, ink()))?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn lines(&self) -> Drawn {
        for line in &self.graph.series {
            let sign = if line.below { -1.0 } else { 1.0 };
            let value = |point: usize| line.points[point].unwrap_or(0.0) * sign;
            self.series(line, || {
                for run in runs(&line.points) {
                    if run.len() == 1 {
                        let at = (self.x(self.graph.end_of(run.start)), value(run.start));
                        self.area.draw(&Circle::new(at, 2 * FINE, ink()))?;
                        continue;
                    }
                    let path: Vec<_> =
                        run.map(|point| (self.x(self.graph.end_of(point)), value(point))).collect();
                    if self.graph.fill {
                        let ends = [path[path.len() - 1].0, path[0].0].map(|x| (x, 0.0));
                        let corners: Vec<_> = path.iter().copied().chain(ends).collect();
                        self.area.draw(&Polygon::new(corners, ink()))?;
                    }
                    self.area.draw(&PathElement::new(path, ink()))?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The group that carries a series' colour and name.
    fn series(&self, line: &Line, inner: impl FnOnce() -> Drawn) -> Drawn {
        let shape = match (self.graph.stack, self.graph.fill) {
            (true, _) => "layer",
            (false, true) => "tint",
            (false, false) => "thin",
        };
        let (hue, key) = (line.hue.class(), escaped(&line.key));
        self.within(&format!("class=\"series {shape} {hue}\" data-k=\"{key}\""), inner)
    }

    /// The points of `run` at `height`; a lone one is drawn as wide as its step.
    #[expect(clippy::cast_precision_loss, reason = "steps are far below 2^52 ms")]
    fn edge(&self, run: std::ops::Range<usize>, height: impl Fn(usize) -> f64) -> Vec<(f64, f64)> {
        let step = self.graph.step.as_millis() as f64;
        if run.len() == 1 {
            let (end, y) = (self.x(self.graph.end_of(run.start)), height(run.start));
            return vec![(end - step, y), (end, y)];
        }
        run.map(|point| (self.x(self.graph.end_of(point)), height(point))).collect()
    }

    fn thresholds(&self) -> Drawn {
        for threshold in &self.graph.thresholds {
            if threshold.value > self.axis.high || threshold.value < self.axis.low {
                continue;
            }
            let class = match threshold.severity {
                Severity::Warning => "class=\"limit warning\"",
                Severity::Critical => "class=\"limit critical\"",
            };
            let y = crisp(self.pixel(0.0, threshold.value).1);
            let PlotBox { left, right, .. } = self.inside;
            self.within(class, || self.segment((left * FINE, y), (right * FINE, y)))?;
        }
        Ok(())
    }

    fn blank_note(&self) -> Drawn {
        let PlotBox { left, right, top, bottom } = self.inside;
        let middle = (left.midpoint(right) * FINE, top.midpoint(bottom) * FINE);
        self.within("class=\"blank\"", || {
            self.text("No data in this period", middle, HPos::Center, VPos::Center)
        })
    }

    /// Milliseconds from the left edge.
    #[expect(clippy::cast_precision_loss, reason = "a span is far below 2^52 ms")]
    fn x(&self, at: rrd::Timestamp) -> f64 {
        at.millis_since(self.graph.span.start()) as f64
    }

    fn pixel(&self, x: f64, y: f64) -> (i32, i32) {
        self.area.map_coordinate(&(x, y))
    }

    fn segment(&self, from: (i32, i32), to: (i32, i32)) -> Drawn {
        self.area.strip_coord_spec().draw(&PathElement::new(vec![from, to], ink()))
    }

    fn text(&self, text: &str, at: (i32, i32), across: HPos, down: VPos) -> Drawn {
        let font = ("sans-serif", FONT_HEIGHT * f64::from(FINE)).into_font();
        let style = TextStyle::from(font).pos(Pos::new(across, down));
        self.area.strip_coord_spec().draw_text(text, &style, at)
    }
}

/// The canvas takes colours from classes, but plotters wants one.
fn ink() -> ShapeStyle {
    ShapeStyle::from(&BLACK).filled()
}

/// The middle of the pixel that `fine` is in: a line of one pixel is sharp there.
fn crisp(fine: i32) -> i32 {
    fine.div_euclid(FINE) * FINE + FINE / 2
}

#[cfg(test)]
mod tests;
