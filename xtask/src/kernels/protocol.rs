//! What the guest says, a line each: `@shunt STATE PART: NAME | DETAIL`, in the end `@shunt end COUNT`.

use std::fmt;

const MARK: &str = "@shunt ";

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ok,
    Failed,
    /// This kernel does not have it.
    Missing,
    /// Worth knowing.
    Note,
}

/// A line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Check {
        state: State,
        part: String,
        name: String,
        detail: String,
    },
    /// Everything was reported, in so many lines.
    End(usize),
}

impl Line {
    /// `None` for what is not of the report: firmware and kernel write too. A line that was cut short is not of it either,
    /// which the count in the end shows.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (_, text) = text.split_once(MARK)?;
        let (word, rest) = text.trim_end().split_once(' ')?;
        let state = match word {
            "ok" => State::Ok,
            "failed" => State::Failed,
            "missing" => State::Missing,
            "note" => State::Note,
            "end" => return rest.parse().ok().map(Self::End),
            _ => return None,
        };
        let (part, rest) = rest.split_once(": ")?;
        let (name, detail) = rest.split_once(" |")?;
        let detail = detail.trim_start().to_owned();
        Some(Self::Check { state, part: part.to_owned(), name: name.to_owned(), detail })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check { state, part, name, detail } => {
                let state = match state {
                    State::Ok => "ok",
                    State::Failed => "FAILED",
                    State::Missing => "missing",
                    State::Note => "note",
                };
                write!(f, "{state} {part}: {name}: {detail}")
            }
            Self::End(count) => write!(f, "end after {count} lines"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_read_wherever_it_begins() {
        let line =
            Line::parse("junk@shunt failed ebpf: no endpoints: refused, IPv4 | timeout | twice\r").unwrap();
        let expected = Line::Check {
            state: State::Failed,
            part: "ebpf".to_owned(),
            name: "no endpoints: refused, IPv4".to_owned(),
            detail: "timeout | twice".to_owned(),
        };
        assert_eq!(line, expected);
        assert_eq!(line.to_string(), "FAILED ebpf: no endpoints: refused, IPv4: timeout | twice");
    }

    #[test]
    fn a_check_without_detail_is_one() {
        let line = Line::parse("@shunt ok nftables: stop | \r");
        assert!(matches!(line, Some(Line::Check { state: State::Ok, detail, .. }) if detail.is_empty()));
    }

    #[test]
    fn the_end_has_the_number_of_lines() {
        assert_eq!(Line::parse("@shunt end 81"), Some(Line::End(81)));
    }

    #[test]
    fn what_is_not_of_the_report_is_nothing() {
        for text in
            ["", "[    0.1] Linux", "@shunt", "@shunt odd a: b | c", "@shunt ok half of a li", "@shunt end x"]
        {
            assert_eq!(Line::parse(text), None, "{text:?}");
        }
    }
}
