//! Case files into plain, independent cases.
//!
//! Rows of a `cases` list inherit what surrounds them, a case is cut where a
//! step asks for a fresh start, and cases that do not apply to the wanted
//! backend are left out.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::case::{Case, Step};

/// Fields a row of a `cases` list takes over from the document around it.
const INHERITED: &[&str] = &["config", "backends"];
/// Fields of a row that make up its only step, if it does not list steps.
const STEP_FIELDS: &[&str] = &["services", "endpointSlices", "flows", "healthChecks"];

/// Whose expectations hold where kube-proxy's backends differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// kube-proxy's nftables mode, also the yardstick for eBPF.
    Nftables,
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
        }
    }
}

/// All cases below a directory that hold for a backend, in order of file names.
pub fn cases_in(directory: &Path, backend: Backend) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for file in json_files(directory)? {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        cases.extend(cases_of(&text, backend).with_context(|| format!("case file {}", file.display()))?);
    }
    number_repeated_names(&mut cases);
    Ok(cases)
}

fn json_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list cases in {}", directory.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    Ok(files)
}

/// The cases of one document that hold for a backend.
pub fn cases_of(text: &str, backend: Backend) -> Result<Vec<Case>> {
    let document: Value = serde_json::from_str(text).context("not JSON")?;
    let documents = match document {
        Value::Array(items) => items,
        other => vec![other],
    };
    let mut cases = Vec::new();
    for document in documents {
        for row in rows(document)? {
            let name = row.get("name").and_then(Value::as_str).unwrap_or("without name").to_owned();
            let case: Case = serde_json::from_value(row).with_context(|| format!("case {name:?}"))?;
            if applies(&case, backend) {
                cases.extend(lives(&case));
            }
        }
    }
    Ok(cases)
}

/// The cases of a document: itself, or the rows of its `cases` list.
fn rows(mut document: Value) -> Result<Vec<Value>> {
    let fields = document.as_object_mut().context("a case is not an object")?;
    let Some(rows) = fields.remove("cases") else { return Ok(vec![document]) };
    let Value::Array(rows) = rows else { anyhow::bail!("cases is not a list") };
    rows.into_iter()
        .map(|row| match row {
            Value::Object(row) => Ok(complete(row, fields)),
            _ => anyhow::bail!("a row of cases is not an object"),
        })
        .collect()
}

/// A row with what it inherits from its document.
fn complete(mut row: Map<String, Value>, document: &Map<String, Value>) -> Value {
    for field in INHERITED {
        if let (None, Some(value)) = (row.get(*field), document.get(*field)) {
            row.insert((*field).to_owned(), value.clone());
        }
    }
    let mut node = document.get("node").and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(Value::Object(own)) = row.remove("node") {
        node.extend(own);
    }
    row.insert("node".to_owned(), node.into());
    let names: Vec<_> = [document.get("name"), row.get("name")].into_iter().flatten().collect();
    let name = names.into_iter().filter_map(Value::as_str).collect::<Vec<_>>().join("/");
    row.insert("name".to_owned(), name.into());
    if !row.contains_key("steps") {
        let step: Map<_, _> = STEP_FIELDS.iter().filter_map(|field| row.remove_entry(*field)).collect();
        row.insert("steps".to_owned(), Value::Array(vec![step.into()]));
    }
    row.into()
}

/// Feature gates are kube-proxy's; at another value than the default they
/// change what is expected, and there is no such setting here.
fn applies(case: &Case, backend: Backend) -> bool {
    let suits = case.backends.is_empty() || case.backends.iter().any(|name| name == backend.name());
    suits && case.feature_gates.is_empty()
}

/// Cuts a case at its fresh starts.
fn lives(case: &Case) -> Vec<Case> {
    let mut lives: Vec<Vec<Step>> = Vec::new();
    for step in case.steps.iter().cloned() {
        match lives.last_mut() {
            Some(life) if !step.fresh => life.push(step),
            _ => lives.push(vec![step]),
        }
    }
    let several = lives.len() > 1;
    lives
        .into_iter()
        .map(|steps| {
            let mut life = Case { steps: Vec::new(), ..case.clone() };
            if let Some(first) = steps.first() {
                if several {
                    let title = first.case.as_deref().or(first.comment.as_deref()).unwrap_or("start");
                    life.name = format!("{}/{title}", case.name);
                }
                if let Some(config) = &first.config {
                    life.config = config.clone();
                }
            }
            order_addresses(&mut life);
            life.steps = steps;
            life
        })
        .collect()
}

/// The node's addresses of the primary family first.
fn order_addresses(case: &mut Case) {
    match case.config.ip_family.as_deref() {
        Some("IPv4") => case.node.ips.sort_by_key(std::net::IpAddr::is_ipv6),
        Some("IPv6") => case.node.ips.sort_by_key(std::net::IpAddr::is_ipv4),
        _ => {}
    }
}

fn number_repeated_names(cases: &mut [Case]) {
    let mut seen: HashMap<String, u32> = HashMap::new();
    for case in cases {
        let count = seen.entry(case.name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            case.name = format!("{} #{count}", case.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Backend, cases_of};

    #[test]
    fn rows_inherit_and_fresh_starts_are_cut() {
        let text = r#"{"name":"group","node":{"ips":["192.0.2.1"]},"config":{"masqueradeAll":true},
            "cases":[{"name":"a","node":{"name":"n"},"services":[]},
                     {"name":"b","steps":[{"case":"x"},{},{"fresh":true,"comment":"y"}]}]}"#;
        let cases = cases_of(text, Backend::Nftables).expect("reads");
        let names: Vec<_> = cases.iter().map(|case| (case.name.as_str(), case.steps.len())).collect();
        assert_eq!(names, [("group/a", 1), ("group/b/x", 2), ("group/b/y", 1)]);
        assert!(cases.iter().all(|case| case.config.masquerade_all));
        assert_eq!((cases[0].node.name.as_str(), cases[1].node.name.as_str()), ("n", "test-node"));
    }

    #[test]
    fn a_misspelt_field_is_an_error() {
        let text = r#"{"name":"a","node":{"ips":["192.0.2.1"]},"steps":[{"servces":[]}]}"#;
        let error = format!("{:#}", cases_of(text, Backend::Nftables).expect_err("refused"));
        assert!(error.contains("servces"), "{error}");
    }

    #[test]
    fn cases_of_another_backend_are_left_out() {
        let text = r#"{"name":"a","backends":["iptables"],"node":{"ips":["192.0.2.1"]},"steps":[{}]}"#;
        assert!(cases_of(text, Backend::Nftables).expect("reads").is_empty());
    }
}
