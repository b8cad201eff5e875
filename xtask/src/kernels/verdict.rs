//! What a kernel can do, and whether that is what it should.

use std::collections::BTreeMap;

use super::{
    catalogue::Kernel,
    protocol::{Line, State},
};

/// Parts of which every kernel has to report something.
const PARTS: [&str; 5] = ["features", "programs", "nftables", "ebpf", "per_packet"];

/// The judged report of one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    name: &'static str,
    release: String,
    /// By part: checks that went well, and all.
    counts: BTreeMap<String, (usize, usize)>,
    /// Features that this kernel does not have, as expected.
    lacks: Vec<String>,
    /// What is wrong; empty if all is well.
    pub(super) problems: Vec<String>,
}

impl Verdict {
    /// Judges a report.
    pub(super) fn of(kernel: &Kernel, release: &str, lines: &[Line]) -> Self {
        let mut verdict = Self {
            name: kernel.name,
            release: release.to_owned(),
            counts: BTreeMap::new(),
            lacks: Vec::new(),
            problems: Vec::new(),
        };
        for line in lines {
            verdict.take(kernel, line);
        }
        match lines.split_last() {
            Some((Line::End(count), before)) if *count == before.len() => {}
            Some((Line::End(count), before)) => {
                verdict.problems.push(format!("{count} lines were reported, {} arrived", before.len()));
            }
            _ => verdict.problems.push("the machine went off before its report was complete".to_owned()),
        }
        for part in PARTS.into_iter().filter(|part| !verdict.counts.contains_key(*part)) {
            verdict.problems.push(format!("nothing was reported of {part}"));
        }
        verdict
    }

    fn take(&mut self, kernel: &Kernel, line: &Line) {
        let Line::Check { state, part, name, .. } = line else { return };
        let may_lack = kernel.lacks.iter().any(|lacked| name.starts_with(lacked));
        match state {
            State::Note => return,
            State::Missing if may_lack => {
                self.lacks.push(name.clone());
                return;
            }
            State::Missing | State::Failed => self.problems.push(line.to_string()),
            State::Ok => {}
        }
        let (well, all) = self.counts.entry(part.clone()).or_default();
        *well += usize::from(*state == State::Ok);
        *all += 1;
    }

    /// One line.
    pub(super) fn in_words(&self) -> String {
        match self.problems.len() {
            0 => "everything as it should be".to_owned(),
            problems => format!("{problems} things are wrong"),
        }
    }

    fn row(&self) -> Vec<String> {
        let count = |part: &&str| {
            let (well, all) = self.counts.get(*part).copied().unwrap_or_default();
            format!("{well}/{all}")
        };
        let lacks = if self.lacks.is_empty() { "nothing".to_owned() } else { self.lacks.join(", ") };
        let mut row = vec![self.name.to_owned(), self.release.clone()];
        row.extend(PARTS.iter().map(count));
        row.push(lacks);
        row
    }
}

/// A table of all kernels, a line each after the heading.
pub(super) fn table(verdicts: &[&Verdict]) -> Vec<String> {
    let heading = ["kernel", "release"].into_iter().chain(PARTS).chain(["lacks"]).map(str::to_owned);
    let rows: Vec<Vec<String>> =
        std::iter::once(heading.collect()).chain(verdicts.iter().map(|verdict| verdict.row())).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: Kernel = Kernel { name: "6.1", suites: &[], lacks: &["tcx link"] };

    fn lines(more: &[&str]) -> Vec<Line> {
        let parts = PARTS.map(|part| format!("@shunt ok {part}: something | fine"));
        let parts = parts.iter().map(String::as_str).chain(more.iter().copied());
        let mut lines: Vec<Line> = parts.map(|text| Line::parse(text).unwrap()).collect();
        lines.push(Line::End(lines.len()));
        lines
    }

    #[test]
    fn a_complete_report_without_failures_is_good() {
        let verdict = Verdict::of(&KERNEL, "6.1.0", &lines(&["@shunt note ebpf: log | slow"]));
        assert_eq!(verdict.problems, [""; 0]);
        assert_eq!(verdict.row(), ["6.1", "6.1.0", "1/1", "1/1", "1/1", "1/1", "1/1", "nothing"]);
    }

    #[test]
    fn what_the_kernel_may_lack_is_told_and_not_held_against_it() {
        let verdict =
            Verdict::of(&KERNEL, "6.1.0", &lines(&["@shunt missing features: tcx link (datapath) | no"]));
        assert_eq!(verdict.problems, [""; 0]);
        assert_eq!(verdict.row().last().unwrap(), "tcx link (datapath)");
    }

    #[test]
    fn anything_else_that_is_missing_or_fails_is_a_problem() {
        let bad = ["@shunt missing features: hash map | no", "@shunt failed ebpf: stop | hangs"];
        let verdict = Verdict::of(&KERNEL, "6.1.0", &lines(&bad));
        assert_eq!(verdict.problems, ["missing features: hash map: no", "FAILED ebpf: stop: hangs"]);
        assert_eq!(verdict.row()[5], "1/2");
    }

    #[test]
    fn an_incomplete_report_is_a_problem() {
        let mut cut = lines(&[]);
        cut.pop();
        assert!(Verdict::of(&KERNEL, "", &cut).in_words().contains("1 things"));
        let mut lost = lines(&[]);
        lost.remove(0);
        let problems = Verdict::of(&KERNEL, "", &lost).problems;
        assert_eq!(problems, ["5 lines were reported, 4 arrived", "nothing was reported of features"]);
        assert_eq!(Verdict::of(&KERNEL, "", &[]).problems.len(), 1 + PARTS.len());
    }

    #[test]
    fn columns_are_aligned() {
        let verdict = Verdict::of(&KERNEL, "6.1.0-50-amd64", &lines(&[]));
        let table = table(&[&verdict]);
        let [heading, row] = table.as_slice() else { panic!("{table:?}") };
        assert_eq!(heading.find("features"), row.find("1/1"));
    }
}
