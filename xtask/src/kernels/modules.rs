//! Kernel modules: which are needed, and in which order they can be loaded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// What a node has loaded, directly or on request: nftables with what either dataplane uses, virtual links, classic BPF
/// filters, listing of sockets. A checksum algorithm first, which others ask for when they are loaded.
const NEEDED: [&str; 35] = [
    "crc32c_generic",
    "nf_tables",
    "nf_conntrack",
    "nf_nat",
    "nf_conntrack_netlink",
    "nft_chain_nat",
    "nft_ct",
    "nft_nat",
    "nft_masq",
    "nft_redir",
    "nft_reject",
    "nft_reject_inet",
    "nft_reject_ipv4",
    "nft_reject_ipv6",
    "nft_numgen",
    "nft_hash",
    "nft_limit",
    "nft_log",
    "nft_fib",
    "nft_fib_inet",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "veth",
    "bridge",
    "sch_ingress",
    "cls_bpf",
    "dummy",
    "vxlan",
    "8021q",
    "bonding",
    "geneve",
    "ipip",
    "inet_diag",
    "udp_diag",
    "tcp_diag",
];
/// Parts of others from some version on: not there, they are not missed.
const FORMER: [&str; 2] = ["nft_counter", "crc32c_generic"];

/// Changes with the lists.
pub(super) fn fingerprint() -> String {
    format!("modules {} {}\n", NEEDED.join(","), FORMER.join(","))
}

/// The one release that a tree has modules of.
pub(super) fn release(tree: &Path) -> Result<String> {
    let folder = folder(tree);
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let names: Vec<String> =
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<Result<_>>()?;
    match names.as_slice() {
        [release] => Ok(release.clone()),
        _ => bail!("{} has modules of these kernels: {}", folder.display(), names.join(", ")),
    }
}

fn folder(tree: &Path) -> PathBuf {
    let merged = tree.join("usr/lib/modules");
    if merged.exists() { merged } else { tree.join("lib/modules") }
}

/// Puts what is needed into `to`, unpacked, with the names in their order in a file `order`.
pub(super) fn gather(tree: &Path, release: &str, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let root = folder(tree).join(release);
    let files = files_below(&root)?;
    let builtin = fs::read_to_string(root.join("modules.builtin")).context("cannot read modules.builtin")?;
    let builtin: BTreeSet<String> = builtin.lines().filter_map(module_name).collect();
    let wanted: Vec<&str> = NEEDED.into_iter().chain(FORMER).collect();
    let order = load_order(&wanted, &builtin, |name| {
        let Some(file) = files.get(name) else { return Ok(None) };
        let content = unpacked(file)?;
        let needs = dependencies(&content);
        fs::write(to.join(format!("{name}.ko")), content)
            .with_context(|| format!("cannot write module {name}"))?;
        Ok(Some(needs))
    })?;
    let lines: Vec<String> = order.iter().map(|name| format!("{name}.ko\n")).collect();
    fs::write(to.join("order"), lines.concat()).context("cannot write the order of modules")
}

/// Every module file by the module's name.
fn files_below(root: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else if let Some(name) = entry.file_name().to_str().and_then(module_name) {
                found.insert(name, entry.path());
            }
        }
    }
    Ok(found)
}

/// `kernel/net/nf-x.ko.xz` is the file of module `nf_x`.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let name = file.strip_suffix(".xz").unwrap_or(file).strip_suffix(".ko")?;
    Some(name.replace('-', "_"))
}

fn unpacked(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    }
    let output = Command::new("xz").args(["--decompress", "--stdout"]).arg(file).output();
    let output = output.context("cannot start xz")?;
    anyhow::ensure!(output.status.success(), "{} cannot be unpacked", file.display());
    Ok(output.stdout)
}

/// What a module's file says in its `depends=`, one of many texts that end in a zero byte.
fn dependencies(content: &[u8]) -> Vec<String> {
    let mut texts = content.split(|byte| *byte == 0);
    let depends = texts.find_map(|text| std::str::from_utf8(text).ok()?.strip_prefix("depends="));
    let names = depends.unwrap_or_default().split(',').filter(|name| !name.is_empty());
    names.map(|name| name.replace('-', "_")).collect()
}

/// Every module once, after those it depends on. `needs` tells the dependencies of one; `None`: there is no such module.
///
/// # Errors
/// A module is neither there nor part of the kernel.
fn load_order(
    wanted: &[&str],
    builtin: &BTreeSet<String>,
    mut needs: impl FnMut(&str) -> Result<Option<Vec<String>>>,
) -> Result<Vec<String>> {
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    // What is to be done next is at the end; the second time a module is met, all that it depends on is done.
    let mut open: Vec<(String, bool)> = wanted.iter().rev().map(|name| ((*name).to_owned(), false)).collect();
    while let Some((name, is_done)) = open.pop() {
        if is_done {
            order.push(name);
        } else if !builtin.contains(&name) && seen.insert(name.clone()) {
            match needs(&name)? {
                Some(needed) => {
                    open.push((name, true));
                    open.extend(needed.into_iter().rev().map(|needed| (needed, false)));
                }
                None if FORMER.contains(&name.as_str()) => {}
                None => bail!("the kernel has no module {name}"),
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(wanted: &[&str], builtin: &[&str], modules: &[(&str, &[&str])]) -> Result<Vec<String>> {
        let builtin = builtin.iter().map(|name| (*name).to_owned()).collect();
        load_order(wanted, &builtin, |name| {
            let found = modules.iter().find(|(module, _)| *module == name);
            Ok(found.map(|(_, needs)| needs.iter().map(|need| (*need).to_owned()).collect()))
        })
    }

    #[test]
    fn what_others_depend_on_comes_first_and_once() {
        let modules: &[(&str, &[&str])] =
            &[("nat", &["conntrack", "crc"]), ("conntrack", &["crc"]), ("crc", &[]), ("veth", &[])];
        let order = order(&["nat", "veth", "conntrack"], &[], modules).unwrap();
        assert_eq!(order, ["crc", "conntrack", "nat", "veth"]);
    }

    #[test]
    fn what_is_part_of_the_kernel_is_not_loaded() {
        assert_eq!(order(&["veth"], &["crc"], &[("veth", &["crc"])]).unwrap(), ["veth"]);
        assert_eq!(order(&["crc"], &["crc"], &[]).unwrap(), [""; 0]);
    }

    #[test]
    fn a_missing_module_is_named_and_a_former_one_is_not_missed() {
        let error = order(&["veth"], &[], &[]).unwrap_err().to_string();
        assert!(error.contains("veth"), "{error}");
        assert_eq!(order(&["nft_counter"], &[], &[]).unwrap(), [""; 0]);
    }

    #[test]
    fn dependencies_are_read_from_the_texts_of_a_module() {
        let content = b"\x7fELF\0license=GPL\0depends=nf-tables,nf_nat\0name=x\0";
        assert_eq!(dependencies(content), ["nf_tables", "nf_nat"]);
        assert_eq!(dependencies(b"license=GPL\0depends=\0"), [""; 0]);
    }

    #[test]
    fn a_module_is_known_by_the_name_of_its_file() {
        assert_eq!(module_name("kernel/net/nf-log.ko.xz").as_deref(), Some("nf_log"));
        assert_eq!(module_name("kernel/net/veth.ko").as_deref(), Some("veth"));
        assert_eq!(module_name("modules.order"), None);
    }
}
