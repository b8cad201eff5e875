//! Reading and writing settings.

use std::io;
use std::path::{Path, PathBuf};

/// Where the kernel's files are: `/`, or a folder that looks like it.
#[derive(Clone, Debug)]
pub struct SysctlRoot {
    root: PathBuf,
}

/// What became of settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was changed, as `name = value`.
    pub changed: Vec<String>,
    /// What could not be changed and why, for the log and a Node event.
    pub warnings: Vec<String>,
    /// Some settings do not exist, because the kernel loads connection tracking only when it is needed: apply again
    /// after the dataplane has been programmed.
    pub incomplete: bool,
}

/// Why a setting could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel does not take the value.
    #[error("cannot set {path} to {value}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What was written.
        value: i64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file holds something else than a number.
    #[error("{path} holds {found:?} where a number should be")]
    NotANumber {
        /// The file.
        path: PathBuf,
        /// What is there.
        found: String,
    },
}

impl SysctlError {
    /// The process may not write, or there is nowhere to write to.
    pub(super) fn is_out_of_reach(&self) -> bool {
        let (Self::Read { source, .. } | Self::Write { source, .. }) = self else { return false };
        matches!(source.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS | libc::EOPNOTSUPP))
    }

    fn is_missing(&self) -> bool {
        matches!(self, Self::Read { source, .. } | Self::Write { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl SysctlRoot {
    /// The running kernel.
    pub fn kernel() -> Self {
        Self::at("/")
    }

    /// A folder with `proc` and `sys` in it.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// `net/ipv4/ip_forward` to its file.
    pub(super) fn sysctl(&self, name: &str) -> PathBuf {
        self.path("proc/sys").join(name)
    }

    /// Any other path, without the leading slash.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The number in a sysctl, `None` if there is none.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        read_number(&self.sysctl(name)).ok()
    }
}

impl Report {
    /// Brings a file to `wanted` if `differs(current, wanted)`, and notes the outcome.
    pub(super) fn set(
        &mut self,
        path: &Path,
        wanted: i64,
        differs: impl Fn(i64, i64) -> bool,
    ) -> Result<(), SysctlError> {
        match set_number(path, wanted, differs) {
            Ok(true) => self.changed.push(format!("{} = {wanted}", path.display())),
            Ok(false) => {}
            Err(error) if error.is_missing() => self.incomplete = true,
            Err(error) if error.is_out_of_reach() => self.warnings.push(out_of_reach(&error)),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn out_of_reach(error: &SysctlError) -> String {
    let source = std::error::Error::source(error).map_or_else(String::new, ToString::to_string);
    format!("{error}: {source}; set it on the host if the present value does not suit")
}

/// Whether it was written.
pub(super) fn set_number(
    path: &Path,
    wanted: i64,
    differs: impl Fn(i64, i64) -> bool,
) -> Result<bool, SysctlError> {
    if !differs(read_number(path)?, wanted) {
        return Ok(false);
    }
    std::fs::write(path, wanted.to_string()).map_err(|source| SysctlError::Write {
        path: path.to_owned(),
        value: wanted,
        source,
    })?;
    Ok(true)
}

fn read_number(path: &Path) -> Result<i64, SysctlError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| SysctlError::Read { path: path.to_owned(), source })?;
    let number = text.trim().parse().ok();
    number.ok_or_else(|| SysctlError::NotANumber { path: path.to_owned(), found: text.trim().to_owned() })
}
