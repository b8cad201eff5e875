//! What a client wants of a page that exists as text and as a versioned object.

/// The form of `/statusz` and `/flagz` to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Text for people.
    Text,
    /// The object, in that version of `config.k8s.io`.
    Object(&'static str),
}

const GROUP: &str = "config.k8s.io";
const VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];

/// The first acceptable form in an `Accept` header; text if there is none. Only `application/json` with the exact
/// group, a known version and `as=<kind>` means the object. `None` if nothing acceptable is named.
pub(super) fn negotiate(accept: Option<&str>, kind: &str) -> Option<Form> {
    match accept.map(str::trim) {
        None | Some("") => Some(Form::Text),
        Some(accept) => accept.split(',').find_map(|range| form(range, kind)),
    }
}

fn form(range: &str, kind: &str) -> Option<Form> {
    let mut parts = range.split(';').map(str::trim);
    match parts.next()? {
        "text/plain" | "text/*" | "*/*" => Some(Form::Text),
        "application/json" => object(parts, kind),
        _ => None,
    }
}

fn object<'a>(parameters: impl Iterator<Item = &'a str>, kind: &str) -> Option<Form> {
    let (mut group, mut version, mut named) = (false, None, false);
    for (key, value) in parameters.filter_map(|parameter| parameter.split_once('=')) {
        match key {
            "g" => group = value == GROUP,
            "v" => version = VERSIONS.into_iter().find(|known| *known == value),
            "as" => named = value == kind,
            _ => {}
        }
    }
    version.filter(|_| group && named).map(Form::Object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_acceptable_form_is_taken() {
        let cases = [
            (None, Some(Form::Text)),
            (Some(""), Some(Form::Text)),
            (Some("*/*"), Some(Form::Text)),
            (Some("text/html, text/plain;charset=utf-8"), Some(Form::Text)),
            (Some("application/json;v=v1beta1;g=config.k8s.io;as=Statusz"), Some(Form::Object("v1beta1"))),
            (
                Some("application/json;as=Statusz;v=v1alpha1;g=config.k8s.io, text/plain"),
                Some(Form::Object("v1alpha1")),
            ),
            (Some("application/json"), None),
            (Some("application/json;v=v1beta1;g=config.k8s.io"), None),
            (Some("application/json;v=v1beta1;g=config.k8s.io;as=Flagz"), None),
            (Some("application/json;v=v9;g=config.k8s.io;as=Statusz"), None),
            (Some("application/xml"), None),
        ];
        for (accept, form) in cases {
            assert_eq!(negotiate(accept, "Statusz"), form, "{accept:?}");
        }
    }
}
