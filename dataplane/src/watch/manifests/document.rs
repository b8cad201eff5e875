//! Text -> documents, with the lines where they begin.

use serde_json::Value;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    /// YAML, documents separated by `---`.
    Yaml,
    /// JSON, documents one after the other.
    Json,
}

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Document {
    /// Line of its first character of content, from 1.
    pub(super) line: u64,
    /// What it says.
    pub(super) value: Value,
    /// Its text and where that begins, if it is YAML: it can tell the line of a field.
    pub(super) yaml: Option<(u64, String)>,
}

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// Where, from 1.
    pub(super) line: Option<u64>,
    /// Path of the field; empty if the text itself is broken.
    pub(super) field: String,
    /// What is wrong.
    pub(super) reason: String,
}

/// Splits a file into documents; empty ones are left out.
pub(super) fn parse(text: &str, syntax: Syntax) -> Result<Vec<Document>, Broken> {
    match syntax {
        Syntax::Yaml => parse_yaml(text),
        Syntax::Json => parse_json(text),
    }
}

/// Manifests can be large, but not absurdly nested; the limits against expanding aliases stay as they are.
pub(super) fn yaml_options() -> serde_saphyr::Options {
    let mut options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
    };
    if let Some(budget) = &mut options.budget {
        budget.max_events = usize::MAX;
        budget.max_nodes = usize::MAX;
        budget.max_total_scalar_bytes = usize::MAX;
    }
    options
}

fn parse_yaml(text: &str) -> Result<Vec<Document>, Broken> {
    let mut documents = Vec::new();
    for (start, part) in split_yaml(text) {
        let value: Value = serde_saphyr::from_str_with_options(&part, yaml_options())
            .map_err(|error| yaml_error(start, &error))?;
        if !value.is_null() {
            let blank = part.lines().take_while(|line| is_blank(line)).count();
            documents.push(Document { line: start + blank as u64, value, yaml: Some((start, part)) });
        }
    }
    Ok(documents)
}

fn is_blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// The error of a document that starts at line `start`.
pub(super) fn yaml_error(start: u64, error: &serde_saphyr::Error) -> Broken {
    let line = error.location().map_or(start, |location| start + location.line().saturating_sub(1));
    // The first line says what, the others show where once more.
    let text = error.without_snippet().to_string();
    Broken {
        line: Some(line),
        field: String::new(),
        reason: text.lines().next().unwrap_or_default().to_owned(),
    }
}

/// The documents with their first lines. `---` at the beginning of a line always separates documents: it cannot occur
/// within one (YAML 1.2.2, 9.1.2).
fn split_yaml(text: &str) -> Vec<(u64, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = vec![(1, String::new())];
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let after =
            line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if let Some(rest) = after {
            // Content may follow on the same line; spaces keep its column.
            documents.push((index as u64 + 1, format!("   {rest}")));
        } else if line.trim_end() != "..."
            && let Some((_, part)) = documents.last_mut()
        {
            part.push_str(line);
        } else if let Some((_, part)) = documents.last_mut() {
            part.push('\n');
        }
    }
    documents
}

fn parse_json(text: &str) -> Result<Vec<Document>, Broken> {
    let mut documents = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    loop {
        let line = line_at(text, stream.byte_offset());
        match stream.next() {
            None => return Ok(documents),
            Some(Ok(Value::Null)) => {}
            Some(Ok(value)) => documents.push(Document { line, value, yaml: None }),
            Some(Err(error)) => {
                let reason = error.to_string();
                return Err(Broken { line: Some(error.line() as u64), field: String::new(), reason });
            }
        }
    }
}

/// The line of the first character of content at or after `offset`.
fn line_at(text: &str, offset: usize) -> u64 {
    let rest = text.get(offset..).unwrap_or_default();
    let content = offset + rest.len() - rest.trim_start().len();
    text.get(..content).unwrap_or_default().matches('\n').count() as u64 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, syntax: Syntax) -> Vec<u64> {
        parse(text, syntax).unwrap().iter().map(|document| document.line).collect()
    }

    #[test]
    fn documents_are_found_with_their_lines() {
        assert_eq!(lines("a: 1\n---\n# comment\nb: 2\n---\n---\nc: 3\n...\n", Syntax::Yaml), [1, 4, 7]);
        assert_eq!(lines("\n\n--- # first\na: 1\n--- {b: 2}\n", Syntax::Yaml), [4, 5]);
        assert_eq!(lines("{\"a\": 1}\n\n{\"b\":\n2}\n{}", Syntax::Json), [1, 3, 5]);
        assert_eq!(lines("", Syntax::Yaml), [0; 0]);
        assert_eq!(lines("# nothing\n", Syntax::Yaml), [0; 0]);
        assert_eq!(lines(" \n", Syntax::Json), [0; 0]);
    }

    #[test]
    fn dashes_within_a_document_do_not_split_it() {
        let documents = parse("a: |\n  ---\n  b\nc: '---'\nd: ---x\n", Syntax::Yaml).unwrap();
        assert_eq!(documents.len(), 1);
        assert_eq!(documents[0].value["a"], "---\nb\n");
    }

    #[test]
    fn broken_text_is_reported_with_its_line() {
        let cases = [
            ("a: 1\nb: [1,\nc: 2\n", Syntax::Yaml, 2..=4),
            ("a: 1\n---\nb: 1\nb: 2\n", Syntax::Yaml, 4..=4),
            ("a: 1\n\tb: 2\n", Syntax::Yaml, 1..=2),
            ("{\"a\": 1}\n{\"b\": }\n", Syntax::Json, 2..=2),
            ("{\"a\":\n", Syntax::Json, 1..=2),
        ];
        for (text, syntax, lines) in cases {
            let broken = parse(text, syntax).unwrap_err();
            assert!(lines.contains(&broken.line.unwrap()), "{text:?}: {broken:?}");
            assert!(!broken.reason.is_empty() && !broken.reason.contains('\n'), "{broken:?}");
        }
    }

    #[test]
    fn words_and_addresses_stay_strings() {
        let document = &parse("a: no\nb: 10.0.0.1\nc: 80\nd: fd00::1\n", Syntax::Yaml).unwrap()[0];
        assert_eq!(document.value, serde_json::json!({"a": "no", "b": "10.0.0.1", "c": 80, "d": "fd00::1"}));
    }
}
