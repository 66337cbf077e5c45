//! Graphs: a model, its ticks, and the SVG drawn from it.

pub mod model;
pub mod numbers;
pub mod palette;
pub mod plot;
pub mod sparkline;
mod svg;
pub mod ticks;

pub use model::{Graph, Line, Severity, Stats, Threshold};
pub use numbers::{Scale, Unit};
pub use palette::{Hue, Theme};
pub use plot::{Frame, Size, draw};
pub use sparkline::sparkline;
