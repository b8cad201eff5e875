//! Arguments of the demo program.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

const MODES: [&str; 3] = ["nftables", "auto", "ebpf"];

/// How to run the demo.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// The agent's `mode`.
    pub(super) mode: String,
    /// Leave everything up in the end.
    pub(super) keep: bool,
    /// The agent's program.
    pub(super) program: PathBuf,
}

impl Settings {
    /// From `[--mode MODE] [--keep] [--agent PROGRAM]`.
    pub(super) fn from_arguments(arguments: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let (mut mode, mut keep, mut program) = ("nftables".to_owned(), false, None);
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().with_context(|| format!("{} needs a value", argument.display()));
            match argument.to_str() {
                Some("--keep") => keep = true,
                Some("--mode") => mode = value()?.to_string_lossy().into_owned(),
                Some("--agent") => program = Some(PathBuf::from(value()?)),
                _ => bail!("unknown argument {}; known are --mode, --keep and --agent", argument.display()),
            }
        }
        if !MODES.contains(&mode.as_str()) {
            bail!("--mode {mode:?}: it has to be one of {}", MODES.join(", "));
        }
        let program = program.map_or_else(beside_this_program, Ok)?;
        let program = program.canonicalize().with_context(|| {
            format!("the agent {} is not there: `cargo xtask demo` builds it", program.display())
        })?;
        Ok(Self { mode, keep, program })
    }
}

fn beside_this_program() -> Result<PathBuf> {
    let this = std::env::current_exe().context("cannot tell where this program is")?;
    Ok(this.with_file_name("shunt"))
}

#[cfg(test)]
mod tests {
    use super::Settings;

    fn parse(words: &[&str]) -> anyhow::Result<Settings> {
        let agent = std::env::current_exe().expect("this program");
        let given = ["--agent".into(), agent.into()];
        Settings::from_arguments(words.iter().map(Into::into).chain(given))
    }

    #[test]
    fn nftables_is_the_mode_unless_another_is_asked_for() {
        let settings = parse(&[]).expect("parses");
        assert_eq!((settings.mode.as_str(), settings.keep), ("nftables", false));
        let settings = parse(&["--mode", "ebpf", "--keep"]).expect("parses");
        assert_eq!((settings.mode.as_str(), settings.keep), ("ebpf", true));
    }

    #[test]
    fn unknown_modes_and_arguments_are_named() {
        for (words, named) in [(["--mode", "ipvs"], "ipvs"), (["--keep", "--fast"], "--fast")] {
            let error = parse(&words).expect_err("is refused").to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
