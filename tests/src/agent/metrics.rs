//! A page of metrics in Prometheus' text format.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// The series of one scrape.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// `name{labels}`, as written, and the value.
    series: BTreeMap<String, f64>,
}

impl Metrics {
    /// Reads a page.
    pub fn parse(page: &str) -> Result<Self> {
        let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let series = lines.map(|line| {
            let (name, value) = line.rsplit_once(' ').with_context(|| format!("no value: {line:?}"))?;
            Ok((name.to_owned(), value.parse().with_context(|| format!("no number: {line:?}"))?))
        });
        Ok(Self { series: series.collect::<Result<_>>()? })
    }

    /// The sum of all series of that name that have these labels; `None` if there is no such series.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let found = self.series.iter().filter(|(series, _)| {
            let (found, rest) = series.split_once('{').unwrap_or((series, ""));
            found == name && wanted.iter().all(|label| rest.contains(label.as_str()))
        });
        found.map(|(_, value)| *value).reduce(|sum, value| sum + value)
    }

    /// The same, 0 without series.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.sum(name, labels).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn series_are_added_up_by_name_and_labels() {
        let page = "# HELP a b\na{x=\"1\",y=\"2\"} 3\na{x=\"1\",y=\"3\"} 4\na_b 5\n";
        let metrics = Metrics::parse(page).expect("parses");
        assert_eq!(metrics.sum("a", &[("x", "1")]), Some(7.0));
        assert_eq!(metrics.sum("a", &[("y", "3")]), Some(4.0));
        assert_eq!(metrics.sum("a_b", &[]), Some(5.0));
        assert_eq!((metrics.sum("b", &[]), metrics.count("b", &[])), (None, 0.0));
    }
}
