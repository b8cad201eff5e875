//! The initial file system: agent, guest program, the tools they call, libraries, BPF objects, kernel modules.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{libraries, source::Source};
use crate::{build_ebpf, process, workspace::Workspace};

/// Programs of this machine that agent and guest call.
const TOOLS: [&str; 5] = ["ip", "nft", "tc", "setpriv", "env"];
/// Programs of the repository, below the folder of what cargo builds.
const PROGRAMS: [&str; 2] = ["release/shunt", "debug/guest"];
/// Where the guest mounts something, or puts files.
const FOLDERS: [&str; 6] = ["dev", "proc", "sys", "tmp", "run", "etc"];
const CONSOLE: (u32, u32) = (5, 1);

/// Everything but the kernel modules, by its path in the machine.
pub(super) struct Userland(BTreeMap<String, Entry>);

enum Entry {
    Folder,
    File { content: Vec<u8>, mode: u32 },
    Device { major: u32, minor: u32 },
}

impl Userland {
    /// Reads what goes into every machine.
    pub(super) fn gather(workspace: &Workspace) -> Result<Self> {
        let mut userland = Self(BTreeMap::new());
        for folder in FOLDERS {
            userland.0.insert(folder.to_owned(), Entry::Folder);
        }
        userland.0.insert("dev/console".to_owned(), Entry::Device { major: CONSOLE.0, minor: CONSOLE.1 });
        // This program is at target/debug/xtask, wherever target/ is.
        let this = std::env::current_exe().context("cannot tell where this program is")?;
        let built = this.ancestors().nth(2).context("this program is in an odd place")?;
        for program in PROGRAMS {
            let name = program.rsplit('/').next().unwrap_or(program);
            let stripped = strip(&built.join(program), workspace)?;
            userland.add_program(&format!("bin/{name}"), &stripped)?;
        }
        for tool in TOOLS {
            let path = process::find(tool).with_context(|| format!("there is no program {tool}"))?;
            userland.add_program(&format!("bin/{tool}"), &path)?;
        }
        for object in build_ebpf::OBJECTS {
            userland.add_file(&format!("bpf/{object}"), &workspace.target(&format!("bpf/{object}")))?;
        }
        Ok(userland)
    }

    fn add_program(&mut self, place: &str, path: &Path) -> Result<()> {
        for library in libraries::of(path)? {
            self.add_file(library.to_string_lossy().trim_start_matches('/'), &library)?;
        }
        self.add_file(place, path)
    }

    fn add_file(&mut self, place: &str, path: &Path) -> Result<()> {
        let failed = || format!("cannot read {}", path.display());
        let mode = fs::metadata(path).with_context(failed)?.permissions().mode() & 0o777;
        let content = fs::read(path).with_context(failed)?;
        self.0.insert(place.to_owned(), Entry::File { content, mode });
        Ok(())
    }

    /// The archive that the kernel unpacks, with the modules of one kernel.
    pub(super) fn pack(&self, source: &Source) -> Result<Vec<u8>> {
        let mut modules = Self(BTreeMap::new());
        let folder = source.modules();
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let entry = entry?;
            modules.add_file(&format!("modules/{}", entry.file_name().to_string_lossy()), &entry.path())?;
        }
        Ok(archive(self.0.iter().chain(&modules.0)))
    }
}

/// A copy without symbols, a third of the size.
fn strip(program: &Path, workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target("kernels/bin");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let copy = folder.join(program.file_name().context("a program without a name")?);
    process::output(Command::new("strip").arg("-s").arg("-o").args([&copy, program]))?;
    Ok(copy)
}

/// A cpio archive in the "newc" format; folders come before what is in them.
fn archive<'a>(entries: impl Iterator<Item = (&'a String, &'a Entry)>) -> Vec<u8> {
    let mut all: BTreeMap<&str, &Entry> = BTreeMap::new();
    for (path, entry) in entries {
        for (end, _) in path.match_indices('/') {
            if let Some(folder) = path.get(..end) {
                all.entry(folder).or_insert(&Entry::Folder);
            }
        }
        all.insert(path, entry);
    }
    let mut packed = Vec::new();
    for (number, (path, entry)) in (1..).zip(all) {
        append(&mut packed, number, path, entry);
    }
    append(&mut packed, 0, "TRAILER!!!", &Entry::File { content: Vec::new(), mode: 0 });
    packed
}

/// Header of hexadecimal numbers, name, content; name and content padded to four bytes.
fn append(packed: &mut Vec<u8>, inode: u32, path: &str, entry: &Entry) {
    let (mode, content, major, minor): (u32, &[u8], u32, u32) = match entry {
        Entry::Folder => (0o040_755, &[], 0, 0),
        Entry::File { content, mode } => (0o100_000 | mode, content, 0, 0),
        Entry::Device { major, minor } => (0o020_600, &[], *major, *minor),
    };
    let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    // inode, mode, uid, gid, links, time, size, device (major, minor), what it stands for (major, minor), name, checksum
    let fields =
        [inode, mode, 0, 0, 1, 0, number(content.len()), 0, 0, major, minor, number(path.len()) + 1, 0];
    packed.extend_from_slice(b"070701");
    for field in fields {
        packed.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    packed.extend_from_slice(path.as_bytes());
    packed.push(0);
    pad(packed);
    packed.extend_from_slice(content);
    pad(packed);
}

fn pad(packed: &mut Vec<u8>) {
    packed.resize(packed.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> Entry {
        Entry::File { content: content.as_bytes().to_vec(), mode: 0o755 }
    }

    #[test]
    fn folders_come_first_and_the_trailer_last() {
        let entries =
            BTreeMap::from([("lib/x/libc.so".to_owned(), file("abc")), ("bin/ip".to_owned(), file("12345"))]);
        let packed = archive(entries.iter());
        let text = String::from_utf8_lossy(&packed);
        let places: Vec<_> = ["bin\0", "bin/ip\0", "lib\0", "lib/x\0", "lib/x/libc.so\0", "TRAILER!!!\0"]
            .iter()
            .map(|name| text.find(name).unwrap())
            .collect();
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!(packed.len() % 4, 0);
    }

    #[test]
    fn a_file_has_its_mode_and_size_in_the_header() {
        let mut packed = Vec::new();
        append(&mut packed, 7, "a", &file("hello"));
        let text = String::from_utf8(packed).unwrap();
        let (header, rest) = text.split_at(110);
        assert!(header.starts_with(concat!("070701", "00000007", "000081ed")), "{header}");
        assert!(
            header.ends_with(concat!(
                "00000005", "00000000", "00000000", "00000000", "00000000", "00000002", "00000000"
            )),
            "{header}"
        );
        assert_eq!(rest, "a\0hello\0\0\0");
    }
}
