//! Values along an axis, a line for each lane, with the legend below.

use anyhow::Result;
use plotters::prelude::RGBColor;

use super::axis::Axis;
use super::canvas::{Align, Canvas, INK, Stroke, Text, drawn};
use super::lanes::Look;
use super::{MARGIN, WIDTH};

/// From above: title and sub-title, then the plot.
const TOP: f64 = 58.0;
const PLOT: f64 = 250.0;
/// Labels of the axis and its name.
const BELOW: f64 = 50.0;
const LEGEND_ROW: f64 = 20.0;
const LEGEND_COLUMNS: u16 = 2;
const MARK: f64 = 4.0;

/// One value of a curve.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench::report) struct Point {
    pub(in crate::bench::report) x: f64,
    pub(in crate::bench::report) y: f64,
    /// Where the value lies in all likelihood.
    pub(in crate::bench::report) interval: Option<(f64, f64)>,
    /// Whether it is marked.
    pub(in crate::bench::report) marked: bool,
}

/// One lane.
#[derive(Debug, Clone)]
pub(in crate::bench::report) struct Curve {
    pub(in crate::bench::report) name: String,
    pub(in crate::bench::report) look: Look,
    pub(in crate::bench::report) points: Vec<Point>,
}

/// A chart of curves.
#[derive(Debug, Clone)]
pub(in crate::bench::report) struct Curves {
    pub(in crate::bench::report) title: String,
    /// What the values are.
    pub(in crate::bench::report) subtitle: String,
    pub(in crate::bench::report) x: Axis,
    /// What the axis counts.
    pub(in crate::bench::report) x_name: String,
    pub(in crate::bench::report) y: Axis,
    pub(in crate::bench::report) lanes: Vec<Curve>,
}

impl Curves {
    /// As an `<svg>` element.
    pub(in crate::bench::report) fn svg(&self) -> Result<String> {
        let rows =
            (1..).zip(self.lanes.iter().step_by(usize::from(LEGEND_COLUMNS))).map(|(row, _)| row).last();
        let height = TOP + PLOT + BELOW + LEGEND_ROW * f64::from(rows.unwrap_or(0_u16));
        drawn((WIDTH, height), &format!("{}, {}", self.title, self.subtitle), |canvas| {
            canvas.titles(&self.title, &self.subtitle, &self.y)?;
            self.axes(canvas)?;
            self.lanes.iter().try_for_each(|curve| self.curve(canvas, curve))?;
            self.legend(canvas)
        })
    }

    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let (left, right) = (MARGIN.0, WIDTH - MARGIN.1);
        (left + self.x.place(x) * (right - left), TOP + (1.0 - self.y.place(y)) * PLOT)
    }

    fn axes(&self, canvas: &mut Canvas<'_>) -> Result<()> {
        let (left, right, bottom) = (MARGIN.0, WIDTH - MARGIN.1, TOP + PLOT);
        let grid = Stroke { color: INK, strength: 0.14, width: 1.0 };
        for (value, label) in &self.y.ticks {
            let (_, y) = self.place(0.0, *value);
            canvas.line(&[(left, y), (right, y)], grid)?;
            canvas.text(label, (left - 7.0, y), Text::plain(Align::Right))?;
        }
        for (value, label) in &self.x.ticks {
            let (x, _) = self.place(*value, 0.0);
            canvas.line(&[(x, TOP), (x, bottom)], grid)?;
            canvas.text(label, (x, bottom + 14.0), Text::plain(Align::Middle))?;
        }
        let axis = Stroke { strength: 0.55, ..grid };
        canvas.line(&[(left, TOP), (left, bottom), (right, bottom)], axis)?;
        canvas.text(&self.x_name, (f64::midpoint(left, right), bottom + 32.0), Text::plain(Align::Middle))
    }

    fn curve(&self, canvas: &mut Canvas<'_>, curve: &Curve) -> Result<()> {
        let color = curve.look.color;
        let places: Vec<_> = curve.points.iter().map(|point| self.place(point.x, point.y)).collect();
        for part in places.windows(2) {
            let &[from, to] = part else { continue };
            if let Some(ends) = below_top(from, to) {
                canvas.line(&ends, Stroke { color, strength: 1.0, width: 1.75 })?;
            }
        }
        for (point, place) in curve.points.iter().zip(places).filter(|(_, place)| place.1 >= TOP) {
            if let Some((low, high)) = point.interval {
                let ends = [self.place(point.x, low), self.place(point.x, high)];
                canvas.line(
                    &ends.map(|(x, y)| (x, y.max(TOP))),
                    Stroke { color, strength: 0.8, width: 1.25 },
                )?;
            }
            if point.marked {
                mark(canvas, curve.look, place, color)?;
            }
        }
        Ok(())
    }

    fn legend(&self, canvas: &mut Canvas<'_>) -> Result<()> {
        let width = (WIDTH - 16.0) / f64::from(LEGEND_COLUMNS);
        let places = (0_u16..).flat_map(|row| (0..LEGEND_COLUMNS).map(move |column| (row, column)));
        for (curve, (row, column)) in self.lanes.iter().zip(places) {
            let x = 12.0 + f64::from(column) * width;
            let y = TOP + PLOT + BELOW + f64::from(row) * LEGEND_ROW + 4.0;
            let line = Stroke { color: curve.look.color, strength: 1.0, width: 1.75 };
            canvas.line(&[(x, y), (x + 18.0, y)], line)?;
            mark(canvas, curve.look, (x + 9.0, y), curve.look.color)?;
            canvas.text(&curve.name, (x + 24.0, y), Text::plain(Align::Left))?;
        }
        Ok(())
    }
}

/// The part of a line that does not leave the chart at the top.
fn below_top(from: (f64, f64), to: (f64, f64)) -> Option<[(f64, f64); 2]> {
    let cut = |inside: (f64, f64), outside: (f64, f64)| {
        let share = (inside.1 - TOP) / (inside.1 - outside.1);
        (inside.0 + share * (outside.0 - inside.0), TOP)
    };
    match (from.1 >= TOP, to.1 >= TOP) {
        (true, true) => Some([from, to]),
        (true, false) => Some([from, cut(from, to)]),
        (false, true) => Some([cut(to, from), to]),
        (false, false) => None,
    }
}

fn mark(canvas: &mut Canvas<'_>, look: Look, place: (f64, f64), color: RGBColor) -> Result<()> {
    match look.shape.corners(place, MARK) {
        None => canvas.disc(place, MARK, color),
        Some(corners) => canvas.polygon(&corners, color),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figure::Unit;

    #[test]
    fn lines_end_where_they_leave_the_chart() {
        assert_eq!(below_top((0.0, TOP + 10.0), (10.0, TOP - 10.0)), Some([(0.0, TOP + 10.0), (5.0, TOP)]));
        assert_eq!(below_top((0.0, TOP - 30.0), (10.0, TOP + 10.0)), Some([(7.5, TOP), (10.0, TOP + 10.0)]));
        assert_eq!(below_top((0.0, TOP - 30.0), (10.0, TOP - 10.0)), None);
    }

    #[test]
    fn a_chart_has_its_names_units_and_a_mark_for_each_value() {
        let point = |x, y| Point { x, y, interval: Some((y * 0.9, y * 1.1)), marked: true };
        let curve = Curve {
            name: "shunt <nftables>".into(),
            look: Look::numbered(0),
            points: vec![point(1.0, 2e4), point(10.0, 3e4)],
        };
        let chart = Curves {
            title: "connect".into(),
            subtitle: "p50".into(),
            x: Axis::at(&[(1.0, "1".into()), (10.0, "10".into())]),
            x_name: "services".into(),
            y: Axis::fitting(Unit::Nanoseconds, [2e4, 3e4].into_iter()),
            lanes: vec![curve],
        };
        let svg = chart.svg().unwrap();
        for text in ["connect", "p50", "services", "20 µs", "shunt &lt;nftables&gt;", "currentColor"] {
            assert!(svg.contains(text), "{text} is missing: {svg}");
        }
        assert_eq!(svg.matches("<polygon").count(), 3, "two values and the legend");
        assert!(svg.starts_with("<svg role=") && !svg.contains("#010203"));
    }
}
