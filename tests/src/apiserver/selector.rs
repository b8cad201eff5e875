//! Label and field selectors.

use serde_json::Value;

/// A selector could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unable to parse requirement {0:?}")]
pub(super) struct SelectorError(String);

/// Both selectors of a request; an object must satisfy all requirements.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    Exists(String),
    Absent(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

impl Selector {
    /// From the query parameters `labelSelector` and `fieldSelector`.
    pub(super) fn parse(labels: &str, fields: &str) -> Result<Self, SelectorError> {
        Ok(Self { labels: parse_list(labels)?, fields: parse_list(fields)? })
    }

    /// Whether an object is selected. Of fields only paths of strings are known; an absent field is the empty string.
    pub(super) fn matches(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        self.labels.iter().all(|r| r.holds(|key| labels.and_then(|l| l.get(key)).and_then(Value::as_str)))
            && self.fields.iter().all(|r| r.holds(|key| Some(field(object, key))))
    }
}

fn field<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(&format!("/{}", path.replace('.', "/"))).and_then(Value::as_str).unwrap_or("")
}

impl Requirement {
    fn parse(text: &str) -> Result<Self, SelectorError> {
        let owned = |text: &str| text.trim().to_owned();
        if let Some(key) = text.strip_prefix('!') {
            return Ok(Self::Absent(owned(key)));
        }
        if let Some((key, values)) = text.split_once(" notin ") {
            return Ok(Self::NotIn(owned(key), parse_set(values)?));
        }
        if let Some((key, values)) = text.split_once(" in ") {
            return Ok(Self::In(owned(key), parse_set(values)?));
        }
        if let Some((key, value)) = text.split_once("!=") {
            return Ok(Self::NotIn(owned(key), vec![owned(value)]));
        }
        if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
            return Ok(Self::In(owned(key), vec![owned(value)]));
        }
        if text.contains(char::is_whitespace) {
            return Err(SelectorError(text.to_owned()));
        }
        Ok(Self::Exists(owned(text)))
    }

    fn holds<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        let listed = |key: &str, values: &[String]| value(key).is_some_and(|v| values.iter().any(|w| w == v));
        match self {
            Self::Exists(key) => value(key).is_some(),
            Self::Absent(key) => value(key).is_none(),
            Self::In(key, values) => listed(key, values),
            Self::NotIn(key, values) => !listed(key, values),
        }
    }
}

fn parse_set(text: &str) -> Result<Vec<String>, SelectorError> {
    let inner = text.trim().strip_prefix('(').and_then(|t| t.strip_suffix(')'));
    let inner = inner.ok_or_else(|| SelectorError(text.to_owned()))?;
    Ok(inner.split(',').map(|value| value.trim().to_owned()).collect())
}

/// Splits at commas outside of parentheses.
fn parse_list(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut depth = 0_usize;
    let parts = text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).map(Requirement::parse).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Selector;

    fn selects(labels: &str, fields: &str) -> bool {
        let object = json!({
            "metadata": {"name": "web", "labels": {"app": "web", "tier": "front"}},
            "spec": {"clusterIP": "10.96.0.1"}
        });
        Selector::parse(labels, fields).unwrap().matches(&object)
    }

    #[test]
    fn an_empty_selector_selects_everything() {
        assert!(selects("", ""));
    }

    #[test]
    fn label_requirements_are_all_needed() {
        assert!(selects("app=web,tier!=back,app", ""));
        assert!(!selects("app=web,tier=back", ""));
        assert!(selects("app in (web, db),!missing", ""));
        assert!(!selects("app notin (web, db)", ""));
        assert!(!selects("!app", ""));
    }

    #[test]
    fn fields_are_compared_by_path() {
        assert!(selects("", "spec.clusterIP!=None,metadata.name=web"));
        assert!(!selects("", "metadata.name=other"));
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(Selector::parse("a b", "").is_err());
        assert!(Selector::parse("a in b", "").is_err());
    }
}
