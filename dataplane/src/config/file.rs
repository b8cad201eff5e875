//! Reads the configuration file: YAML (or JSON) documents, strictly, with the place of each mistake.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_saphyr::{MessageFormatter, UserMessageFormatter};

use super::document::{self, KubeProxyConfiguration};
use super::error::ConfigError;
use super::shunt_document::{self, ShuntConfiguration};

/// The documents of a file, as they are written: without defaults.
#[derive(Debug, Default)]
pub(super) struct Documents {
    pub(super) kube_proxy: KubeProxyConfiguration,
    pub(super) shunt: ShuntConfiguration,
}

/// What tells the documents apart. Unknown keys are the second reading's concern.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TypeMeta {
    api_version: Option<String>,
    kind: Option<String>,
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Documents, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(path, &text)
}

/// Reads the text of a file; `file` is for messages.
pub(super) fn parse(file: &Path, text: &str) -> Result<Documents, ConfigError> {
    let (mut kube_proxy, mut shunt) = (None, None);
    for document in split(text) {
        let meta: TypeMeta = strict(file, &document)?;
        match (meta.api_version.as_deref(), meta.kind.as_deref()) {
            (Some(document::API_VERSION), Some(document::KIND)) => {
                once(file, document::KIND, &mut kube_proxy, strict(file, &document)?)?;
            }
            (Some(shunt_document::API_VERSION), Some(shunt_document::KIND)) => {
                once(file, shunt_document::KIND, &mut shunt, strict(file, &document)?)?;
            }
            (version, kind) => return Err(unknown_kind(file, &document, version, kind)),
        }
    }
    let kube_proxy = kube_proxy.ok_or_else(|| ConfigError::Documents {
        file: file.to_owned(),
        reason: format!("no document of kind {} ({})", document::KIND, document::API_VERSION),
    })?;
    Ok(Documents { kube_proxy, shunt: shunt.unwrap_or_default() })
}

fn once<T>(file: &Path, kind: &str, slot: &mut Option<T>, value: T) -> Result<(), ConfigError> {
    if slot.replace(value).is_some() {
        let reason = format!("more than one document of kind {kind}");
        return Err(ConfigError::Documents { file: file.to_owned(), reason });
    }
    Ok(())
}

fn unknown_kind(file: &Path, document: &str, version: Option<&str>, kind: Option<&str>) -> ConfigError {
    let first = document.lines().position(|line| !line.trim().is_empty()).unwrap_or_default();
    let reason = match (version, kind) {
        (Some(version), Some(kind)) => format!(
            "unknown document {version:?} {kind:?}; expected {:?} {:?} or {:?} {:?}",
            document::API_VERSION,
            document::KIND,
            shunt_document::API_VERSION,
            shunt_document::KIND,
        ),
        (None, _) => "the document has no apiVersion".to_owned(),
        (_, None) => "the document has no kind".to_owned(),
    };
    let line = u64::try_from(first).unwrap_or_default() + 1;
    ConfigError::Syntax { file: file.to_owned(), line, column: 1, field: String::new(), reason }
}

/// The documents of a YAML stream that have any content. Each is preceded by empty lines for what stands before it, so
/// that line numbers stay those of the file. A line that starts with `---` divides documents wherever it stands, also
/// in the middle of a text block.
fn split(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let rest = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if let Some(rest) = rest {
            // What follows the marker on its line belongs to the new document, at its column.
            documents.push("\n".repeat(index) + "   " + rest + "\n");
        } else if let Some(document) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    documents.retain(|document| has_content(document));
    documents
}

fn has_content(document: &str) -> bool {
    document.lines().map(str::trim).any(|line| !line.is_empty() && !line.starts_with('#') && line != "...")
}

/// Reads one document into `T`; every error has its field and place.
fn strict<T: DeserializeOwned>(file: &Path, document: &str) -> Result<T, ConfigError> {
    // A bare number or boolean is not a string, and `yes` is a boolean, as for Kubernetes' own decoder.
    let options = serde_saphyr::options! { no_schema: true, strict_booleans: false, with_snippet: false };
    let mut track = serde_path_to_error::Track::new();
    let result = serde_saphyr::with_deserializer_from_str_with_options(document, options, |deserializer| {
        T::deserialize(serde_path_to_error::Deserializer::new(deserializer, &mut track))
    });
    result.map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |place| (place.line(), place.column()));
        let field = track.path().to_string();
        let field = if field == "." { String::new() } else { field };
        ConfigError::Syntax { file: file.to_owned(), line, column, field, reason: reason(&error) }
    })
}

/// The message alone: the place is given by the caller.
fn reason(error: &serde_saphyr::Error) -> String {
    UserMessageFormatter.format_message(error).into_owned()
}
