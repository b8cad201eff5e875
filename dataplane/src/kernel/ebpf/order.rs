//! Where the packet programs run among those of others on the same interface.
//!
//! The place is looked for when a link is made and when an agent starts, among the programs that are there then. Where
//! others put theirs afterwards is up to them: two that both want to be first would never come to rest. Only a program that
//! the order names is looked for again.

use std::fmt;
use std::str::FromStr;

use super::sys::{AttachType, Attached, Place};

/// The place among other tcx programs. Classic filters always run after all tcx programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Nearest the wire: first of what enters, last of what leaves, so that the programs of others see clients and
    /// backends in both directions.
    #[default]
    Outermost,
    /// Nearest the kernel: the programs of others see clients and frontends in both directions.
    Innermost,
    /// Before those that are there, in both directions.
    First,
    /// After those that are there, in both directions.
    Last,
    /// Before the program of this name, in both directions; after all others where there is none.
    Before(String),
    /// After the program of this name, in both directions; after all others where there is none.
    After(String),
}

/// What an order may be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of outermost, innermost, first, last, before:PROGRAM, after:PROGRAM")]
pub struct NoOrder;

impl FromStr for Order {
    type Err = NoOrder;

    fn from_str(text: &str) -> Result<Self, NoOrder> {
        let order = match text {
            "outermost" => Self::Outermost,
            "innermost" => Self::Innermost,
            "first" => Self::First,
            "last" => Self::Last,
            _ => match text.split_once(':') {
                Some(("before", name)) if !name.is_empty() => Self::Before(name.to_owned()),
                Some(("after", name)) if !name.is_empty() => Self::After(name.to_owned()),
                _ => return Err(NoOrder),
            },
        };
        Ok(order)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outermost => f.write_str("outermost"),
            Self::Innermost => f.write_str("innermost"),
            Self::First => f.write_str("first"),
            Self::Last => f.write_str("last"),
            Self::Before(name) => write!(f, "before:{name}"),
            Self::After(name) => write!(f, "after:{name}"),
        }
    }
}

/// The kernel keeps so much of a program's name.
const KEPT: usize = 15;

impl Order {
    /// Whether the place is beside a certain program.
    pub(super) const fn names_another(&self) -> bool {
        matches!(self, Self::Before(_) | Self::After(_))
    }

    /// Where to attach among `others`, which run in this order; `name` tells the names of programs by their ids.
    pub(super) fn place(
        &self,
        kind: AttachType,
        others: &[Attached],
        name: impl Fn(u32) -> Option<String>,
    ) -> Place {
        let named = |wanted: &str| {
            let kept = wanted.get(..KEPT).unwrap_or(wanted);
            others
                .iter()
                .find(|other| name(other.program).as_deref() == Some(kept))
                .map(|found| found.program)
        };
        match self {
            Self::First => Place::Start,
            Self::Outermost if kind == AttachType::TcxIngress => Place::Start,
            Self::Innermost if kind == AttachType::TcxEgress => Place::Start,
            Self::Last | Self::Outermost | Self::Innermost => Place::End,
            Self::Before(program) => named(program).map_or(Place::End, Place::Before),
            Self::After(program) => named(program).map_or(Place::End, Place::After),
        }
    }
}

/// Whether the link `own` is where `place` says, among all that are attached. `place` is what [`Order::place`] says of the
/// others.
pub(super) fn is_placed(own: u32, place: Place, all: &[Attached]) -> bool {
    let Some(position) = all.iter().position(|attached| attached.link == own) else { return false };
    let of = |program: u32| all.iter().position(|attached| attached.program == program);
    match place {
        Place::Start => position == 0,
        Place::End => position + 1 == all.len(),
        Place::Before(program) => of(program).is_some_and(|anchor| position < anchor),
        Place::After(program) => of(program).is_some_and(|anchor| position > anchor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: [Attached; 2] = [Attached { program: 7, link: 70 }, Attached { program: 8, link: 80 }];

    fn place(text: &str, kind: AttachType) -> Place {
        let name = |id| (id == 8).then(|| "a_name_that_is_".to_owned());
        text.parse::<Order>().unwrap().place(kind, &OTHERS, name)
    }

    #[test]
    fn orders_are_read_as_they_are_written() {
        for text in ["outermost", "innermost", "first", "last", "before:cil_from", "after:x:y"] {
            assert_eq!(text.parse::<Order>().unwrap().to_string(), text);
        }
        for text in ["", "First", "before", "before:", "behind:x"] {
            assert_eq!(text.parse::<Order>(), Err(NoOrder), "{text}");
        }
    }

    #[test]
    fn the_edge_is_before_others_on_the_way_in_and_behind_them_on_the_way_out() {
        let (ingress, egress) = (AttachType::TcxIngress, AttachType::TcxEgress);
        assert_eq!((place("outermost", ingress), place("outermost", egress)), (Place::Start, Place::End));
        assert_eq!((place("innermost", ingress), place("innermost", egress)), (Place::End, Place::Start));
        assert_eq!((place("first", ingress), place("first", egress)), (Place::Start, Place::Start));
        assert_eq!((place("last", ingress), place("last", egress)), (Place::End, Place::End));
    }

    #[test]
    fn names_are_compared_as_far_as_the_kernel_keeps_them() {
        let ingress = AttachType::TcxIngress;
        assert_eq!(place("before:a_name_that_is_cut_off", ingress), Place::Before(8));
        assert_eq!(place("after:a_name_that_is_", ingress), Place::After(8));
        assert_eq!(place("before:another", ingress), Place::End);
    }

    #[test]
    fn a_place_is_held_or_not() {
        let own = Attached { program: 9, link: 90 };
        let [first, second] = OTHERS;
        assert!(is_placed(90, Place::Start, &[own, first, second]));
        assert!(!is_placed(90, Place::End, &[own, first, second]));
        assert!(is_placed(90, Place::Before(8), &[first, own, second]));
        assert!(!is_placed(90, Place::After(8), &[first, own, second]));
        assert!(!is_placed(91, Place::Start, &[own]));
    }
}
