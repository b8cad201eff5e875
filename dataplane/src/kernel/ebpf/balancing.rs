//! Whether sockets are balanced here, and what of it this kernel lacks. Nothing of it stops the dataplane: without
//! socket load balancing packets are translated one by one.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::attachments::{AttachError, Attachments};
use super::cgroup;
use super::node_config;
use super::settings::{Settings, Sockets};
use super::words;

/// Socket load balancing on this node.
#[derive(Debug)]
pub(super) struct Balancing {
    /// The cgroup with its path, where sockets are balanced.
    cgroup: Option<(File, PathBuf)>,
    /// By which programs know this network namespace; 0 if nothing tells.
    pub(super) cookie: u64,
    wanted: Sockets,
    /// Node ports are wanted on loopback addresses.
    loopback: bool,
    /// Programs refuse sockets themselves, with `ECONNREFUSED`; else it is done to their packets.
    names_refusals: bool,
    /// Why it is off although it was wanted.
    lost: Option<String>,
    /// Why its programs could not be attached last time.
    trouble: Option<String>,
}

impl Balancing {
    /// Finds the cgroup.
    pub(super) fn new(settings: &Settings) -> Self {
        let mut new = Self {
            cgroup: None,
            cookie: 0,
            wanted: settings.sockets,
            loopback: settings.loopback_node_ports,
            names_refusals: true,
            lost: None,
            trouble: None,
        };
        if settings.sockets != Sockets::Off {
            match cgroup::open(&settings.cgroup_root) {
                Ok(found) => new.cgroup = Some(found),
                Err(error) => new.lost = Some(error.to_string()),
            }
        }
        new.learn_cookie(node_config::netns_cookie(new.path()));
        new
    }

    fn learn_cookie(&mut self, cookie: io::Result<u64>) {
        match cookie {
            Ok(cookie) => self.cookie = cookie,
            Err(error) if self.wanted == Sockets::Host => {
                self.give_up(&format!("the host's network namespace cannot be told from others: {error}"));
            }
            Err(error) => tracing::debug!(%error, "the cookie of this network namespace is not known"),
        }
    }

    /// Programs cannot be loaded, or have nothing to go by: packets are translated one by one.
    pub(super) fn give_up(&mut self, why: &str) {
        self.cgroup = None;
        self.lost = Some(why.to_owned());
    }

    /// Whether programs can choose what a refused socket sees.
    pub(super) fn set_names_refusals(&mut self, names: bool) {
        self.names_refusals = names;
    }

    /// The cgroup to attach to.
    pub(super) fn cgroup(&self) -> Option<&File> {
        self.cgroup.as_ref().map(|(directory, _)| directory)
    }

    /// Its path.
    pub(super) fn path(&self) -> Option<&Path> {
        self.cgroup.as_ref().map(|(_, path)| path.as_path())
    }

    /// Attaches the programs to the cgroup, or takes away what an earlier agent had attached. A cgroup that refuses them
    /// is noted; only if nothing can be taken away either it is an error.
    pub(super) fn attach(&mut self, attachments: &mut Attachments) -> Result<(), AttachError> {
        let Some((directory, _)) = &self.cgroup else { return attachments.detach_sockets() };
        let outcome = attachments.attach_sockets(directory);
        if outcome.is_err() {
            // Some without the others would show processes the wrong peer.
            attachments.detach_sockets()?;
        }
        self.attached(outcome.map_err(|error| words(&error)));
        Ok(())
    }

    /// Notes how attaching went. It is tried again with everything else.
    fn attached(&mut self, outcome: Result<(), String>) {
        let trouble = outcome.err();
        if let Some(trouble) = trouble.as_ref().filter(|trouble| self.trouble.as_ref() != Some(trouble)) {
            tracing::warn!(
                "socket load balancing does not work, packets are translated one by one: {trouble}"
            );
        }
        self.trouble = trouble;
    }

    /// Sockets are balanced now.
    pub(super) fn works(&self) -> bool {
        self.cgroup.is_some() && self.trouble.is_none()
    }

    /// What does not work, and what is done instead.
    pub(super) fn shortcomings(&self) -> Vec<String> {
        let mut found = Vec::new();
        let lost = self.lost.as_deref().or(self.trouble.as_deref());
        if let Some(why) = lost.filter(|_| self.wanted != Sockets::Off) {
            found.push(format!("socket load balancing is off, packets are translated one by one: {why}"));
        } else if self.wanted != Sockets::Off && !self.names_refusals {
            found.push(
                "sockets are refused by an answer to their packets, not at once: this kernel has no bpf_set_retval for \
                 sockets (5.18)"
                    .to_owned(),
            );
        }
        if self.loopback && (!self.works() || self.cookie == 0) {
            let why = if self.works() {
                "this kernel does not tell the host's network namespace from others (5.14)"
            } else {
                "they need socket load balancing"
            };
            found.push(format!("node ports do not work on loopback addresses: {why}"));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balancing(wanted: Sockets) -> Balancing {
        let cgroup = (File::open("/").unwrap(), PathBuf::from("/"));
        Balancing {
            cgroup: Some(cgroup).filter(|_| wanted != Sockets::Off),
            cookie: 1,
            wanted,
            loopback: true,
            names_refusals: true,
            lost: None,
            trouble: None,
        }
    }

    #[test]
    fn a_kernel_that_has_everything_has_no_shortcomings() {
        assert_eq!(balancing(Sockets::All).shortcomings(), [""; 0]);
        assert!(balancing(Sockets::Host).works());
    }

    #[test]
    fn what_was_turned_off_is_no_shortcoming_but_what_goes_with_it_is_named() {
        let off = balancing(Sockets::Off);
        assert!(!off.works());
        let said = off.shortcomings();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("loopback") && said[0].contains("need socket load balancing"), "{said:?}");
    }

    #[test]
    fn a_cgroup_that_is_not_there_turns_it_off_and_is_named() {
        let settings =
            Settings { cgroup_root: "/nowhere/at-all".into(), ..Settings::for_tests(Sockets::All) };
        let found = Balancing::new(&settings);
        assert!(!found.works() && found.cgroup().is_none());
        assert!(found.shortcomings()[0].contains("/nowhere/at-all"), "{:?}", found.shortcomings());
    }

    #[test]
    fn without_a_cookie_the_host_alone_cannot_be_served_but_everybody_can() {
        let mut host = balancing(Sockets::Host);
        host.cookie = 0;
        host.learn_cookie(Err(io::ErrorKind::Unsupported.into()));
        assert!(!host.works());
        assert!(host.shortcomings()[0].contains("cannot be told from others"), "{:?}", host.shortcomings());
        let mut all = balancing(Sockets::All);
        all.cookie = 0;
        all.learn_cookie(Err(io::ErrorKind::Unsupported.into()));
        assert!(all.works());
        assert!(all.shortcomings()[0].contains("loopback"), "{:?}", all.shortcomings());
    }

    #[test]
    fn refusals_without_their_name_are_a_shortcoming_of_sockets_only() {
        let mut found = balancing(Sockets::All);
        found.set_names_refusals(false);
        assert!(found.shortcomings()[0].contains("bpf_set_retval"), "{:?}", found.shortcomings());
        found.attached(Err("cgroup link: EPERM".to_owned()));
        assert!(!found.works());
        let said = found.shortcomings().join("\n");
        assert!(said.contains("cgroup link: EPERM") && !said.contains("bpf_set_retval"), "{said}");
        found.attached(Ok(()));
        assert!(found.works());
    }
}
