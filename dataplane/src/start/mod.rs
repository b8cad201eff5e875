//! From a command line to a running agent: puts the parts together, once.

mod choice;
mod dataplane;
mod init;
mod node_cidr;
mod observer;
mod run;
mod source;

use std::process::ExitCode;

use crate::cli::{self, Args, Command};
use crate::config::{self, Loaded};
use crate::serve::{LogHandle, LogOptions, init_logging};

/// Runs what the command line asks for; the exit code of the process.
///
/// # Errors
/// Everything that ends the process early, for the caller to print.
pub fn main(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Some(Command::Cleanup { own }) => return init::cleanup(&args.own.bpffs_root, *own),
        Some(command) => return cli::ask(command),
        None => {}
    }
    if args.process.version {
        return Ok(cli::print_version());
    }
    let loaded = config::load(args)?;
    let logs = logging(&loaded)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(path) = args.write_config_to() {
        config::write(path, &loaded.document)?;
        tracing::info!(path = %path.display(), "wrote the configuration");
        return Ok(ExitCode::SUCCESS);
    }
    if args.process.cleanup {
        return init::cleanup(&loaded.settings.ebpf.bpffs_root, false);
    }
    if args.process.init_only {
        return init::init_only(&loaded.settings);
    }
    run::run(args, loaded, logs)
}

fn logging(loaded: &Loaded) -> anyhow::Result<LogHandle> {
    let logging = &loaded.settings.logging;
    let options = LogOptions {
        format: match logging.format {
            config::LogFormat::Text => crate::serve::LogFormat::Text,
            config::LogFormat::Json => crate::serve::LogFormat::Json,
        },
        verbosity: u8::try_from(logging.verbosity).unwrap_or(u8::MAX),
        vmodule: vmodule(&logging.vmodule),
        split_stream: false,
    };
    Ok(init_logging(&options)?)
}

/// As the flag spells it: `pattern=level,...`.
fn vmodule(patterns: &[(String, u32)]) -> String {
    let words: Vec<_> = patterns.iter().map(|(pattern, level)| format!("{pattern}={level}")).collect();
    words.join(",")
}
