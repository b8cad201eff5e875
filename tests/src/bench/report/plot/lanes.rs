//! Colours and marks: a lane looks the same in every chart. The colours are
//! those of Okabe and Ito and of Tol, and one violet, which people with any
//! kind of colour vision can tell apart, as far as they are legible on white
//! and on black; marks tell lanes apart without any colour.

use plotters::prelude::RGBColor;

use super::canvas::INK;

/// The form of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Disc,
    Square,
    Diamond,
    Up,
    Down,
    Cross,
}

/// How a lane looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::bench::report) struct Look {
    pub(super) color: RGBColor,
    pub(super) shape: Shape,
}

/// Lanes that have a look of their own.
const KNOWN: [(&str, Look); 13] = [
    ("direct", look(INK, Shape::Disc)),
    ("conntrack", look(RGBColor(0x80, 0x80, 0x80), Shape::Cross)),
    ("empty tcx programs", look(RGBColor(0x99, 0x99, 0x33), Shape::Down)),
    ("shunt ebpf", look(RGBColor(0x1f, 0x7f, 0xd0), Shape::Square)),
    ("shunt ebpf per-packet", look(RGBColor(0x56, 0xb4, 0xe9), Shape::Up)),
    ("shunt ebpf, accelerated", look(RGBColor(0x33, 0x22, 0x88), Shape::Diamond)),
    ("shunt ebpf, masquerading", look(RGBColor(0x7a, 0x62, 0xd8), Shape::Up)),
    ("shunt ebpf, bystander", look(RGBColor(0xee, 0x88, 0x66), Shape::Diamond)),
    ("shunt nftables", look(RGBColor(0x00, 0x9e, 0x73), Shape::Diamond)),
    ("kube-proxy nftables", look(RGBColor(0xd5, 0x5e, 0x00), Shape::Disc)),
    ("kube-proxy nftables layout", look(RGBColor(0xe6, 0x9f, 0x00), Shape::Down)),
    ("kube-proxy iptables", look(RGBColor(0xaa, 0x44, 0x99), Shape::Square)),
    ("kube-proxy iptables layout", look(RGBColor(0xcc, 0x79, 0xa7), Shape::Cross)),
];
/// For all others, in turn.
const OTHERS: [Look; 6] = [
    look(RGBColor(0x1f, 0x7f, 0xd0), Shape::Square),
    look(RGBColor(0xe6, 0x9f, 0x00), Shape::Up),
    look(RGBColor(0x00, 0x9e, 0x73), Shape::Diamond),
    look(RGBColor(0xcc, 0x79, 0xa7), Shape::Cross),
    look(RGBColor(0x99, 0x99, 0x33), Shape::Down),
    look(RGBColor(0xd5, 0x5e, 0x00), Shape::Disc),
];

const fn look(color: RGBColor, shape: Shape) -> Look {
    Look { color, shape }
}

impl Look {
    /// Of a lane; `index` is its place among the lanes of a report.
    pub(in crate::bench::report) fn of(lane: &str, index: usize) -> Self {
        let known = KNOWN.iter().find(|(name, _)| *name == lane).map(|(_, look)| *look);
        known.unwrap_or_else(|| Self::numbered(index))
    }

    /// The look of the n-th of several things.
    pub(in crate::bench::report) fn numbered(index: usize) -> Self {
        OTHERS.iter().cycle().nth(index).copied().unwrap_or(look(INK, Shape::Disc))
    }
}

impl Shape {
    /// Corners around a middle, for a mark of about twice this radius; `None` for a disc.
    pub(super) fn corners(self, (x, y): (f64, f64), radius: f64) -> Option<Vec<(f64, f64)>> {
        let r = radius;
        let corners: &[(f64, f64)] = match self {
            Self::Disc => return None,
            Self::Square => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            Self::Diamond => &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
            Self::Up => &[(0.0, -1.2), (1.15, 0.9), (-1.15, 0.9)],
            Self::Down => &[(0.0, 1.2), (1.15, -0.9), (-1.15, -0.9)],
            Self::Cross => &[
                (-1.2, -0.7),
                (-0.7, -1.2),
                (0.0, -0.5),
                (0.7, -1.2),
                (1.2, -0.7),
                (0.5, 0.0),
                (1.2, 0.7),
                (0.7, 1.2),
                (0.0, 0.5),
                (-0.7, 1.2),
                (-1.2, 0.7),
                (-0.5, 0.0),
            ],
        };
        Some(corners.iter().map(|(dx, dy)| (x + dx * r, y + dy * r)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_known_lanes_look_alike() {
        for (index, (name, look)) in KNOWN.iter().enumerate() {
            for (other, other_look) in &KNOWN[index + 1..] {
                assert!(look.color != other_look.color, "{name} and {other}");
            }
        }
    }

    #[test]
    fn a_lane_looks_the_same_wherever_it_stands() {
        assert_eq!(Look::of("shunt nftables", 0), Look::of("shunt nftables", 5));
        assert!(Look::of("something new", 0) != Look::of("something new", 1));
    }
}
