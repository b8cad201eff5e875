//! Which logging settings Kubernetes allows.

use super::logging_document::LoggingConfiguration;
use super::validation::Findings;

/// klog takes no more, although the field could hold it.
const MAX_VERBOSITY: u32 = i32::MAX.unsigned_abs();

pub(super) fn validate(found: &mut Findings, logging: &LoggingConfiguration) {
    found.one_of("logging.format", &logging.format, &["text", "json"]);
    let too_verbose = format!("must be at most {MAX_VERBOSITY}");
    let verbosity = logging.verbosity;
    found.require(verbosity <= MAX_VERBOSITY, "logging.verbosity", verbosity, &too_verbose);
    if !logging.vmodule.is_empty() && logging.format != "text" {
        found.add("logging.vmodule", &logging.format, "only supported for the text log format");
    }
    for (index, module) in logging.vmodule.iter().enumerate() {
        let (pattern, verbosity) = (&module.file_pattern, module.verbosity);
        let path = format!("logging.vmodule[{index}]");
        let pattern_path = format!("{path}.filePattern");
        found.require(!pattern.is_empty(), &pattern_path, pattern, "must not be empty");
        let has_separator = pattern.contains(['=', ',']);
        found.require(!has_separator, &pattern_path, pattern, "must not contain an equal sign or a comma");
        found.require(verbosity <= MAX_VERBOSITY, &format!("{path}.verbosity"), verbosity, &too_verbose);
    }
}
