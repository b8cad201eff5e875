//! A drawing in points of a page, with plotters' SVG backend beneath.

use anyhow::{Result, anyhow};
use plotters::backend::DrawingBackend as _;
use plotters::prelude::{Color as _, IntoFont as _, RGBColor, SVGBackend, ShapeStyle};
use plotters::style::FontStyle;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;

/// The backend knows whole numbers only: so many of them are a point.
const SCALE: f64 = 4.0;
/// Stands for the colour of the page's text until the drawing is done.
pub(super) const INK: RGBColor = RGBColor(1, 2, 3);
const INK_AS_TEXT: &str = "#010203";
/// What the backend multiplies sizes of text by.
const TEXT: f64 = 1.24;

/// How text stands at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Middle,
    Right,
}

/// A piece of text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    pub(super) size: f64,
    pub(super) align: Align,
    pub(super) bold: bool,
    /// From 0 to 1.
    pub(super) strength: f64,
}

impl Text {
    /// Plain text of a chart.
    pub(super) const fn plain(align: Align) -> Self {
        Self { size: 12.0, align, bold: false, strength: 0.85 }
    }
}

/// A line's colour and width.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stroke {
    pub(super) color: RGBColor,
    pub(super) strength: f64,
    pub(super) width: f64,
}

/// A drawing; measured in points from the upper left corner.
pub(super) struct Canvas<'a> {
    backend: SVGBackend<'a>,
}

/// Draws on a fresh canvas; returns the `<svg>` element. `description` is for those who cannot see it.
pub(super) fn drawn(
    (width, height): (f64, f64),
    description: &str,
    draw: impl FnOnce(&mut Canvas<'_>) -> Result<()>,
) -> Result<String> {
    let mut svg = String::new();
    let mut canvas =
        Canvas { backend: SVGBackend::with_string(&mut svg, (unsigned(width), unsigned(height))) };
    draw(&mut canvas)?;
    canvas.backend.present().map_err(failed)?;
    drop(canvas);
    // A size of its own would keep the page from fitting it into its columns.
    let size = format!(r#"<svg width="{}" height="{}""#, unsigned(width), unsigned(height));
    let named =
        format!(r#"<svg role="img" aria-label="{}""#, crate::bench::report::html::escaped(description));
    Ok(svg.replacen(&size, &named, 1).replace(INK_AS_TEXT, "currentColor"))
}

impl Canvas<'_> {
    pub(super) fn line(&mut self, points: &[(f64, f64)], stroke: Stroke) -> Result<()> {
        let style = ShapeStyle {
            color: stroke.color.mix(stroke.strength),
            filled: false,
            stroke_width: unsigned(stroke.width),
        };
        self.backend.draw_path(points.iter().map(|point| placed(*point)), &style).map_err(failed)
    }

    pub(super) fn polygon(&mut self, points: &[(f64, f64)], color: RGBColor) -> Result<()> {
        let points = points.iter().map(|point| placed(*point));
        self.backend.fill_polygon(points, &color).map_err(failed)
    }

    pub(super) fn disc(&mut self, center: (f64, f64), radius: f64, color: RGBColor) -> Result<()> {
        self.backend.draw_circle(placed(center), unsigned(radius), &color, true).map_err(failed)
    }

    /// What a chart is called, and below it what its values are.
    pub(super) fn titles(&mut self, title: &str, subtitle: &str, axis: &Axis) -> Result<()> {
        let heading = Text { size: 15.0, bold: true, strength: 1.0, ..Text::plain(Align::Left) };
        self.text(title, (8.0, 16.0), heading)?;
        let parts: Vec<_> = [subtitle, axis.scale()].into_iter().filter(|part| !part.is_empty()).collect();
        self.text(&parts.join(", "), (8.0, 36.0), Text::plain(Align::Left))
    }

    /// Text whose middle is at this height.
    pub(super) fn text(&mut self, text: &str, place: (f64, f64), look: Text) -> Result<()> {
        let align = match look.align {
            Align::Left => HPos::Left,
            Align::Middle => HPos::Center,
            Align::Right => HPos::Right,
        };
        let style = if look.bold { FontStyle::Bold } else { FontStyle::Normal };
        let font = ("sans-serif", look.size * SCALE * TEXT).into_font().style(style);
        let style = font.color(&INK.mix(look.strength)).pos(Pos::new(align, VPos::Center));
        self.backend.draw_text(text, &style, placed(place)).map_err(failed)
    }
}

fn placed((x, y): (f64, f64)) -> (i32, i32) {
    #[expect(clippy::cast_possible_truncation, reason = "charts are small")]
    let whole = |length: f64| (length * SCALE).round() as i32;
    (whole(x), whole(y))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "charts are small, lengths not negative"
)]
fn unsigned(length: f64) -> u32 {
    (length * SCALE).round() as u32
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("drawing: {error}")
}
