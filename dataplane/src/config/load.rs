//! From a command line to the settings it stands for.

use std::path::Path;

use super::document::KubeProxyConfiguration;
use super::error::{ConfigError, FieldErrors};
use super::file::{self, Documents};
use super::settings::Settings;
use super::shunt_document::ShuntConfiguration;
use super::{effective, flags, validation, warnings};
use crate::cli::Args;

/// A configuration that passed every check.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the agent runs with.
    pub settings: Settings,
    /// The same as a KubeProxyConfiguration, with defaults: for /configz and `--write-config-to`.
    pub document: KubeProxyConfiguration,
    /// The same as a ShuntConfiguration, with defaults.
    pub shunt: ShuntConfiguration,
    /// What was accepted but has no effect, or another one than in kube-proxy. To be printed once each.
    pub warnings: Vec<String>,
    /// All flags with their values, in alphabetical order: for /flagz.
    pub flags: Vec<(String, String)>,
}

/// Reads the file that the flags name, or takes the flags alone; fills in defaults and checks everything.
pub fn load(args: &Args) -> Result<Loaded, ConfigError> {
    let Documents { kube_proxy: mut document, mut shunt } = match args.config_file() {
        Some(path) => {
            let mut documents = file::read(path)?;
            documents.kube_proxy.set_defaults();
            documents
        }
        None => Documents { kube_proxy: flags::document(args), shunt: ShuntConfiguration::default() },
    };
    shunt.set_defaults();
    flags::override_with(args, &mut document, &mut shunt)?;
    let mut errors = validation::validate(&document);
    errors.extend(validation::validate_shunt(&shunt));
    if !errors.is_empty() {
        let origin =
            args.config_file().map_or("the command line".to_owned(), |path| path.display().to_string());
        return Err(ConfigError::Invalid { origin, errors: FieldErrors(errors) });
    }
    let master = Some(args.api.master.clone()).filter(|master| !master.is_empty());
    let settings = effective::settings(&document, &shunt, master)?;
    let mut notes = warnings::warnings(args, &document);
    notes.extend(warnings::acceleration(settings.mode, &settings.ebpf));
    Ok(Loaded { settings, warnings: notes, flags: args.flags.clone(), document, shunt })
}

/// Writes a KubeProxyConfiguration as YAML: `--write-config-to`.
pub fn write(path: &Path, document: &KubeProxyConfiguration) -> Result<(), ConfigError> {
    let text = serde_saphyr::to_string(document).map_err(|error| ConfigError::Serialize(Box::new(error)))?;
    std::fs::write(path, text).map_err(|source| ConfigError::Write { path: path.to_owned(), source })
}
