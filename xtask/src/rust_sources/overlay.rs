//! A sysroot of links: everything of the toolchain's, and the sources it lacks.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use anyhow::Result;

use super::{Compiler, IN_SYSROOT, ignore_missing};

/// Makes `overlay` from `sysroot` and the sources in `library`.
pub(super) fn make(sysroot: &Path, library: &Path, overlay: &Path) -> Result<Compiler> {
    fs::remove_dir_all(overlay).or_else(ignore_missing)?;
    link_entries(sysroot, overlay, "lib")?;
    link_entries(&sysroot.join("lib"), &overlay.join("lib"), "rustlib")?;
    link_entries(&sysroot.join("lib/rustlib"), &overlay.join("lib/rustlib"), "src")?;
    let sources = overlay.join(IN_SYSROOT);
    fs::create_dir_all(sources.parent().unwrap_or(overlay))?;
    symlink(library, sources)?;
    // clippy recognises the compiler by this very name.
    let rustc = overlay.join("wrapper/rustc");
    fs::create_dir_all(overlay.join("wrapper"))?;
    write_script(&rustc, &sysroot.join("bin/rustc"), overlay)?;
    Ok(Compiler::Overlay { rustc, sysroot: overlay.to_owned() })
}

/// Links each entry of `from` into `to`, but makes `own` a folder of its own.
fn link_entries(from: &Path, to: &Path, own: &str) -> Result<()> {
    fs::create_dir_all(to.join(own))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name() != own {
            symlink(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn write_script(script: &Path, rustc: &Path, sysroot: &Path) -> Result<()> {
    let text = format!("#!/bin/sh\nexec '{}' --sysroot '{}' \"$@\"\n", rustc.display(), sysroot.display());
    fs::write(script, text)?;
    fs::set_permissions(script, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overlay_has_the_toolchains_files_and_the_sources() {
        let folder = std::env::temp_dir().join(format!("shunt-overlay-{}", std::process::id()));
        let (sysroot, library) = (folder.join("sysroot"), folder.join("library"));
        fs::create_dir_all(sysroot.join("bin")).unwrap();
        fs::create_dir_all(sysroot.join("lib/rustlib/etc")).unwrap();
        fs::create_dir_all(&library).unwrap();
        fs::write(sysroot.join("lib/libLLVM.so"), "llvm").unwrap();
        fs::write(library.join("Cargo.lock"), "").unwrap();

        let overlay = folder.join("overlay");
        // Twice: an overlay that is there already is replaced.
        for _ in 0..2 {
            make(&sysroot, &library, &overlay).unwrap();
        }
        assert_eq!(fs::read_to_string(overlay.join("lib/libLLVM.so")).unwrap(), "llvm");
        assert!(overlay.join("lib/rustlib/etc").is_dir() && overlay.join("bin").is_dir());
        assert!(super::super::has_sources(&overlay) && !super::super::has_sources(&sysroot));
        fs::remove_dir_all(folder).unwrap();
    }
}
