//! The shared libraries that a program of this machine needs to run in another.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::process;

/// Absolute paths, the dynamic linker among them. None for a program without any.
pub(super) fn of(program: &Path) -> Result<Vec<PathBuf>> {
    match process::output(Command::new("ldd").arg(program)) {
        Ok(list) => parse(&list),
        // How ldd says that a program is static.
        Err(error) if error.to_string().contains("not a dynamic executable") => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Lines are `libc.so.6 => /lib/libc.so.6 (0x7f...)`, `/lib64/ld-linux.so.2 (0x7f...)` or `linux-vdso.so.1 (0x7f...)`.
fn parse(list: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in list.lines() {
        anyhow::ensure!(!line.contains("not found"), "a library is missing: {}", line.trim());
        let place = line.split_once("=>").map_or(line, |(_, place)| place);
        let path = place.split_whitespace().next().filter(|path| path.starts_with('/'));
        found.extend(path.map(PathBuf::from));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_linker_are_found_and_the_kernels_own_is_not() {
        let list = "\tlinux-vdso.so.1 (0x00007f0d3b42f000)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f0d3801e000)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f0d3b431000)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(parse(list).unwrap(), expected);
        assert!(parse("\tstatically linked\n").unwrap().is_empty());
    }

    #[test]
    fn a_library_that_is_not_there_is_named() {
        let error = parse("\tlibodd.so => not found\n").unwrap_err().to_string();
        assert!(error.contains("libodd.so"), "{error}");
    }
}
