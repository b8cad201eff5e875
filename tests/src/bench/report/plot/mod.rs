//! Charts as SVG, drawn with plotters' SVG backend. Text and axes take the
//! colour of the page around them, so that charts are legible on light and
//! dark pages alike.

mod axis;
mod bars;
mod canvas;
mod curves;
mod lanes;

pub(super) use axis::Axis;
pub(super) use bars::{Bar, Bars, Group};
pub(super) use curves::{Curve, Curves, Point};
pub(super) use lanes::Look;

/// How far from the left the plotting begins, and how far from the right it ends.
const MARGIN: (f64, f64) = (66.0, 18.0);
/// Width of a chart.
const WIDTH: f64 = 580.0;
