//! Values side by side: groups of bars that lie on their side, with the value at their end.

use anyhow::Result;
use plotters::prelude::RGBColor;

use super::WIDTH;
use super::axis::Axis;
use super::canvas::{Align, Canvas, INK, Stroke, Text, drawn};
use super::lanes::Look;

const TOP: f64 = 52.0;
const BAR: f64 = 17.0;
const BETWEEN_GROUPS: f64 = 14.0;
/// For the names of bars.
const NAMES: f64 = 190.0;
/// For the value of the longest bar.
const VALUES: f64 = 82.0;

/// One value.
#[derive(Debug, Clone)]
pub(in crate::bench::report) struct Bar {
    pub(in crate::bench::report) name: String,
    pub(in crate::bench::report) look: Look,
    pub(in crate::bench::report) value: f64,
    /// Where the value lies in all likelihood.
    pub(in crate::bench::report) interval: Option<(f64, f64)>,
    /// The value in words.
    pub(in crate::bench::report) label: String,
}

/// Bars below one heading.
#[derive(Debug, Clone)]
pub(in crate::bench::report) struct Group {
    /// Empty for none.
    pub(in crate::bench::report) name: String,
    pub(in crate::bench::report) bars: Vec<Bar>,
}

/// A chart of bars.
#[derive(Debug, Clone)]
pub(in crate::bench::report) struct Bars {
    pub(in crate::bench::report) title: String,
    pub(in crate::bench::report) subtitle: String,
    pub(in crate::bench::report) axis: Axis,
    pub(in crate::bench::report) groups: Vec<Group>,
}

impl Bars {
    /// As an `<svg>` element.
    pub(in crate::bench::report) fn svg(&self) -> Result<String> {
        let height = TOP + self.groups.iter().map(Group::height).sum::<f64>() + 4.0;
        let description = format!("{}, {}", self.title, self.subtitle);
        drawn((WIDTH, height), &description, |canvas| {
            canvas.titles(&self.title, &self.subtitle, &self.axis)?;
            let mut y = TOP;
            for group in &self.groups {
                self.group(canvas, group, y)?;
                y += group.height();
            }
            Ok(())
        })
    }

    fn group(&self, canvas: &mut Canvas<'_>, group: &Group, top: f64) -> Result<()> {
        let mut y = top;
        if !group.name.is_empty() {
            let look = Text { bold: true, ..Text::plain(Align::Left) };
            canvas.text(&group.name, (8.0, y + BAR / 2.0), look)?;
            y += BAR;
        }
        let begun = y;
        for bar in &group.bars {
            let middle = y + BAR / 2.0;
            canvas.text(&bar.name, (NAMES - 8.0, middle), Text::plain(Align::Right))?;
            let end = self.place(bar.value);
            canvas.polygon(&rectangle((NAMES, y + 2.5), (end, y + BAR - 2.5)), bar.look.color)?;
            let mut text = end;
            if let Some((low, high)) = bar.interval {
                self.whisker(canvas, middle, (low, high), INK)?;
                text = text.max(self.place(high));
            }
            canvas.text(&bar.label, (text + 6.0, middle), Text::plain(Align::Left))?;
            y += BAR;
        }
        canvas.line(&[(NAMES, begun), (NAMES, y)], Stroke { color: INK, strength: 0.55, width: 1.0 })
    }

    fn whisker(
        &self,
        canvas: &mut Canvas<'_>,
        y: f64,
        (low, high): (f64, f64),
        color: RGBColor,
    ) -> Result<()> {
        let stroke = Stroke { color, strength: 0.7, width: 1.0 };
        let (low, high) = (self.place(low), self.place(high));
        canvas.line(&[(low, y), (high, y)], stroke)?;
        [low, high].iter().try_for_each(|x| canvas.line(&[(*x, y - 3.0), (*x, y + 3.0)], stroke))
    }

    fn place(&self, value: f64) -> f64 {
        NAMES + self.axis.place(value) * (WIDTH - NAMES - VALUES)
    }
}

impl Group {
    fn height(&self) -> f64 {
        let heading = if self.name.is_empty() { 0.0 } else { BAR };
        heading + self.bars.iter().map(|_| BAR).sum::<f64>() + BETWEEN_GROUPS
    }
}

fn rectangle((left, top): (f64, f64), (right, bottom): (f64, f64)) -> [(f64, f64); 4] {
    [(left, top), (right, top), (right, bottom), (left, bottom)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figure::Unit;

    #[test]
    fn each_bar_has_its_name_and_value() {
        let bar = |name: &str, value: f64| Bar {
            name: name.into(),
            look: Look::numbered(0),
            value,
            interval: None,
            label: format!("{value} ns"),
        };
        let group =
            Group { name: "established".into(), bars: vec![bar("one flow", 58.0), bar("many", 90.0)] };
        let axis = Axis::fitting(Unit::Nanoseconds, [58.0, 90.0].into_iter());
        let chart = Bars { title: "per packet".into(), subtitle: "ns".into(), axis, groups: vec![group] };
        let svg = chart.svg().unwrap();
        for text in ["established", "one flow", "58 ns", "many", "90 ns"] {
            assert!(svg.contains(text), "{text} is missing: {svg}");
        }
        assert_eq!(svg.matches("<polygon").count(), 2);
    }
}
