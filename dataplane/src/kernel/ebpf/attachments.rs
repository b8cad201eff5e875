//! The packet programs on every interface of the node.
//!
//! An interface has them by links (tcx), which nobody removes by accident. To make a link costs the kernel 15 ms, during
//! which nobody else may configure interfaces; so when many interfaces appear at once they get classic filters, which cost
//! next to nothing, and links later, one after the other ([`Attachments::settle_one`]). A packet that meets the programs
//! twice in between is translated once: what is translated is no frontend's any more. Without tcx in the kernel, where a
//! link is refused, or if the operator wants it, it stays with filters.
//!
//! Filters need a clsact qdisc. While one comes or goes, the kernel drops what the interface sends (`qdisc_graft`
//! deactivates it). So interfaces that were there before the agent, and carry traffic, get links however long that takes,
//! and a qdisc stays, empty, when links have taken the place of its filters.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use shunt_abi::interface::{ACCELERATES, HANDS_OVER, InterfaceValue};
use shunt_abi::name;

use super::classic::Classic;
use super::contest::{Contest, Misplaced};
use super::description::{describe, is_served};
use super::directory::entries;
use super::hook::{HOOKS, Hook};
use super::interfaces::{self, Interface};
use super::link::{self, Target};
use super::map::{MapError, TypedMap};
use super::markers::Markers;
use super::order::Order;
use super::programs::{Programs, ProgramsError, SOCKET_PROGRAMS};
use super::settings::Attaching;
use super::shortcuts::{self, Shortcuts};
use super::words;
use crate::domain::LocalDetector;
use crate::plan::PerFamily;

/// So many interfaces get links at once: that takes less than the 100 ms within which a new one is to be served.
const FEW: usize = 2;

/// Why an interface or a cgroup could not be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttachError {
    /// The list of interfaces, or the pins, could not be read.
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Map(#[from] MapError),
    #[error(transparent)]
    Programs(#[from] ProgramsError),
}

/// How an interface has its programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Links,
    Filters,
    /// By filters, and links were refused.
    FiltersOnly,
}

#[derive(Clone, Debug)]
struct Served {
    /// As it was last seen.
    interface: Interface,
    /// As the programs know it.
    value: InterfaceValue,
    by: By,
}

/// Attached programs.
#[derive(Debug)]
pub(super) struct Attachments {
    pub(super) programs: Programs,
    links: PathBuf,
    detectors: PerFamily<LocalDetector>,
    wanted: Attaching,
    known: BTreeMap<u32, Served>,
    /// The kernel has tcx links, and they are wanted.
    has_links: bool,
    /// New links come behind all others.
    stays_behind: bool,
    classic: Classic,
    markers: Markers,
    /// Where the array of continuations is pinned.
    tails: Option<PathBuf>,
    contest: Contest,
    /// What programs are told of interfaces on behalf of accelerated flows, if there may be any.
    shortcuts: Option<Shortcuts>,
}

impl Attachments {
    /// `links` is the folder of pinned links.
    pub(super) fn new(
        programs: Programs,
        links: PathBuf,
        detectors: PerFamily<LocalDetector>,
        wanted: Attaching,
    ) -> io::Result<Self> {
        Ok(Self {
            programs,
            markers: Markers::of(links.parent().unwrap_or(&links)),
            links,
            detectors,
            known: BTreeMap::new(),
            has_links: !wanted.only_filters,
            stays_behind: false,
            classic: Classic::new(wanted.filter_priority)?,
            wanted,
            tails: None,
            contest: Contest::default(),
            shortcuts: None,
        })
    }

    /// The interface with programs that packets of this interface come by: itself, or (of a bridge) a port of it.
    pub(super) fn serving(&self, index: u32) -> Option<&Interface> {
        let port = || self.known.values().find(|served| served.interface.master == index);
        self.known.get(&index).or_else(port).map(|served| &served.interface)
    }

    /// Whether new links come behind all others: those of an earlier build have to see packets first. Where they are then, they
    /// stay until an agent starts again.
    pub(super) const fn stay_behind(&mut self, behind: bool) {
        self.stays_behind = behind;
    }

    /// Has programs told of interfaces what accelerated flows need.
    pub(super) fn accelerate(&mut self) {
        self.shortcuts.get_or_insert_default();
    }

    /// Whether there may be accelerated flows.
    pub(super) const fn is_accelerated(&self) -> bool {
        self.shortcuts.is_some()
    }

    /// Interfaces by which packets of accelerated flows may leave, and those of them whose other end they are handed to.
    pub(super) fn shortcuts(&self) -> [usize; 2] {
        [ACCELERATES, HANDS_OVER]
            .map(|bit| self.known.values().filter(|served| served.value.flags & bit != 0).count())
    }

    /// Interfaces that are served.
    pub(super) fn interfaces(&self) -> usize {
        self.known.len()
    }

    /// Serves what is there now and was not; forgets what is gone. An interface that cannot be served stops none of the
    /// others.
    pub(super) fn sync(&mut self, map: &TypedMap<u32, InterfaceValue>) -> Result<(), AttachError> {
        // Later ones have just appeared.
        let carry_traffic = self.known.is_empty();
        let all = interfaces::current().map_err(failed("list the interfaces"))?;
        let all: BTreeMap<u32, Interface> =
            all.into_iter().map(|interface| (interface.index, interface)).collect();
        if let Some(shortcuts) = &mut self.shortcuts {
            shortcuts.look_at_routes();
        }
        let mut new = Vec::new();
        for interface in all.values().filter(|interface| is_served(interface)) {
            let value = self.describe(interface, &all);
            let known = self.known.get_mut(&interface.index);
            if known.as_ref().is_some_and(|known| known.interface == *interface && known.value == value) {
                continue;
            }
            if let Err(error) = map.set(&interface.index, &value) {
                tracing::warn!(interface = interface.name, "it is not served: {}", words(&error));
                continue;
            }
            match known {
                Some(known) => (known.interface, known.value) = (interface.clone(), value),
                None => new.push((interface, value)),
            }
        }
        self.forget_gone(&all, map)?;
        self.serve(&new, carry_traffic);
        if let Some(shortcuts) = &mut self.shortcuts {
            let ports = self.known.values().map(|served| (&served.interface, served.value));
            shortcuts.describe_bridges(&all, ports, map)?;
        }
        Ok(())
    }

    /// What the programs are told of an interface now.
    fn describe(&mut self, interface: &Interface, all: &BTreeMap<u32, Interface>) -> InterfaceValue {
        let value = describe(interface, all, &self.detectors);
        let Some(shortcuts) = &self.shortcuts else { return value };
        let is_narrow = shortcuts.is_narrow(&value);
        let pins = HOOKS.map(|hook| self.pin(hook, interface.index));
        shortcuts::describe(value, interface, (&pins, is_narrow), &mut self.classic)
    }

    fn serve(&mut self, new: &[(&Interface, InterfaceValue)], carry_traffic: bool) {
        let costly = new.iter().filter(|(interface, _)| !self.is_pinned(interface.index)).count();
        for (interface, value) in new {
            let at_once = carry_traffic || costly <= FEW || self.is_pinned(interface.index);
            match self.attach(interface.index, at_once) {
                Ok(by) => {
                    let served = Served { interface: (*interface).clone(), value: *value, by };
                    self.known.insert(interface.index, served);
                }
                // Most likely it is gone again, which the next look will tell.
                Err(error) => tracing::warn!(interface = interface.name, "{}", words(&error)),
            }
        }
    }

    /// Has an interface served, by links if they are to be had `at_once`.
    fn attach(&mut self, index: u32, at_once: bool) -> Result<By, AttachError> {
        if self.has_links && at_once {
            match self.link(index) {
                Ok(()) => return Ok(By::Links),
                Err(AttachError::Io { source, .. }) if lacks_tcx(&source) => {
                    tracing::info!("this kernel has no tcx; using classic filters");
                    self.has_links = false;
                }
                Err(refusal) => return self.filter_instead(index, refusal),
            }
        }
        match self.filter(index) {
            Ok(()) if self.has_links => Ok(By::Filters),
            Ok(()) => self.unlink(index).map(|()| By::FiltersOnly),
            // Whatever stands in the way of filters does not stand in the way of links.
            Err(_) if self.has_links => self.link(index).map(|()| By::Links),
            Err(error) => Err(error),
        }
    }

    /// Links were refused, perhaps because there is no room for one more program: filters have places of their own.
    fn filter_instead(&mut self, index: u32, refusal: AttachError) -> Result<By, AttachError> {
        if self.filter(index).is_err() {
            // Most likely the interface is gone, which the refusal says as well.
            return Err(refusal);
        }
        tracing::warn!(index, "classic filters take the place of links: {}", words(&refusal));
        self.unlink(index).map(|()| By::FiltersOnly)
    }

    fn link(&mut self, index: u32) -> Result<(), AttachError> {
        for hook in HOOKS {
            let pin = self.pin(hook, index);
            let fd = self.programs.fd(hook.program)?;
            let order = if self.stays_behind { &Order::Last } else { &self.wanted.order };
            link::attach(&pin, fd, Target::Interface(index, order), hook.tcx)
                .map_err(failed("make a tcx link"))?;
        }
        Ok(())
    }

    fn unlink(&self, index: u32) -> Result<(), AttachError> {
        HOOKS.iter().try_for_each(|hook| link::detach(&self.pin(*hook, index))).map_err(failed("end a link"))
    }

    fn filter(&mut self, index: u32) -> Result<(), AttachError> {
        if self.classic.add_qdisc(index).map_err(failed("make a clsact qdisc"))? {
            self.markers.set(index).map_err(failed("note that a qdisc was made"))?;
        }
        for hook in HOOKS {
            let fd = self.programs.fd(hook.program)?;
            self.classic.attach(index, &hook, fd).map_err(failed("attach a classic filter"))?;
        }
        Ok(())
    }

    /// The qdisc stays, and with it the note who made it.
    fn unfilter(&mut self, index: u32) -> Result<(), AttachError> {
        remove_filters(&mut self.classic, index, false).map_err(failed("remove classic filters"))
    }

    /// Whether some interface waits for links.
    pub(super) fn is_unsettled(&self) -> bool {
        self.has_links && self.known.values().any(|served| served.by == By::Filters)
    }

    /// Gives one of those interfaces its links.
    pub(super) fn settle_one(&mut self) {
        let waiting = self.known.iter().find(|(_, served)| served.by == By::Filters);
        let Some(index) = waiting.map(|(index, _)| *index).filter(|_| self.has_links) else { return };
        let settled = self.link(index);
        let by = match settled {
            Ok(()) => By::Links,
            Err(AttachError::Io { source, .. }) if lacks_tcx(&source) => {
                tracing::info!("this kernel has no tcx; classic filters stay");
                self.has_links = false;
                By::FiltersOnly
            }
            // It is served. If it is gone, the next look will tell.
            Err(error) => {
                tracing::debug!(index, "classic filters stay: {}", words(&error));
                By::FiltersOnly
            }
        };
        if by == By::Links
            && let Err(error) = self.unfilter(index)
        {
            tracing::warn!(index, "{}", words(&error));
        }
        if let Some(served) = self.known.get_mut(&index) {
            served.by = by;
        }
    }

    fn forget_gone(
        &mut self,
        found: &BTreeMap<u32, Interface>,
        map: &TypedMap<u32, InterfaceValue>,
    ) -> Result<(), AttachError> {
        let is_there = |index: &u32| found.get(index).is_some_and(is_served);
        let gone: Vec<u32> = self.known.keys().filter(|index| !is_there(index)).copied().collect();
        for index in gone {
            self.unlink(index)?;
            self.contest.forget(index);
            // It may be there and served at its master now.
            if found.contains_key(&index) {
                self.unfilter(index)?;
            } else {
                self.markers.clear(index).map_err(failed("forget a qdisc"))?;
            }
            map.delete(&index)?;
            self.known.remove(&index);
        }
        Ok(())
    }

    /// Keeps what the programs continue in, under a name of its own. Before they are attached.
    pub(super) fn pin_tails(&mut self) -> Result<(), AttachError> {
        if self.tails.is_none() {
            let process = std::process::id();
            let mut names =
                (0_u32..).map(|number| self.folder().join(format!("{}-{process}-{number}", name::TAILS)));
            let free = names.find(|path| !path.exists()).unwrap_or_default();
            self.programs.pin_tails(&free).map_err(failed("pin the continuations"))?;
            self.tails = Some(free);
        }
        Ok(())
    }

    /// Lets go of what earlier programs continued in. After every link has those of now.
    pub(super) fn drop_old_tails(&self) -> Result<(), AttachError> {
        for path in entries(self.folder()).map_err(failed("list the pins"))? {
            let is_tails =
                path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name::TAILS));
            if is_tails && self.tails.as_ref() != Some(&path) {
                link::detach(&path).map_err(failed("remove a pin"))?;
            }
        }
        Ok(())
    }

    fn folder(&self) -> &Path {
        self.links.parent().unwrap_or(&self.links)
    }

    /// Ends what earlier agents left: links of interfaces that went away while nobody looked, and filters where links
    /// have taken their place.
    pub(super) fn sweep(&mut self, map: &TypedMap<u32, InterfaceValue>) -> Result<(), AttachError> {
        for path in entries(&self.links).map_err(failed("list the links"))? {
            let index = path
                .file_name()
                .and_then(|name| name.to_str()?.split_once('-')?.1.parse::<u32>().ok())
                .filter(|index| !self.known.contains_key(index));
            if let Some(index) = index {
                link::detach(&path).map_err(failed("end a link"))?;
                map.delete(&index)?;
            }
        }
        self.markers.take_over().map_err(failed("take over notes on qdiscs"))?;
        for index in self.classic.qdiscs().map_err(failed("list the qdiscs"))? {
            if self.known.get(&index).is_some_and(|served| served.by == By::Links) {
                self.unfilter(index)?;
            }
        }
        Ok(())
    }

    fn pin(&self, hook: Hook, index: u32) -> PathBuf {
        self.links.join(format!("{}-{index}", hook.name))
    }

    fn is_pinned(&self, index: u32) -> bool {
        HOOKS.iter().all(|hook| self.pin(*hook, index).exists())
    }

    /// Attaches the socket programs to a cgroup.
    pub(super) fn attach_sockets(&mut self, cgroup: &File) -> Result<(), AttachError> {
        for (program, kind) in SOCKET_PROGRAMS {
            let pin = self.links.join(program);
            let fd = self.programs.fd(program)?;
            link::attach(&pin, fd.as_fd(), Target::Cgroup(cgroup), kind)
                .map_err(failed("make a cgroup link"))?;
        }
        Ok(())
    }

    /// Ends the links of the socket programs.
    pub(super) fn detach_sockets(&self) -> Result<(), AttachError> {
        detach_sockets(&self.links)
    }

    /// Whether this kernel has no tcx links although they are wanted, so that classic filters are used.
    pub(super) const fn lacks_links(&self) -> bool {
        !self.has_links && !self.wanted.only_filters
    }

    /// Whether links are to be placed anew, because a program that the order names has come to the wrong side.
    pub(super) fn begin_to_move(&mut self) -> bool {
        self.contest.begin(self.misplaced())
    }

    fn misplaced(&self) -> Misplaced {
        let mut found = Misplaced::new();
        for (index, _) in self.known.iter().filter(|(_, served)| served.by == By::Links) {
            for hook in HOOKS {
                let other = link::misplaced_by(&self.pin(hook, *index), hook.tcx, *index, &self.wanted.order);
                // An interface that is gone has no order.
                found.extend(other.ok().flatten().map(|other| ((hook.name, *index), other)));
            }
        }
        found
    }

    /// Has other programs attached from the next [`Self::sync`] on, as the next agent does it.
    pub(super) fn renew(&mut self, programs: Programs) {
        self.programs = programs;
        self.tails = None;
    }

    /// Links and filters that should be there and are not, or not in their place, whoever did that. Interfaces that are gone
    /// do not count.
    pub(super) fn missing(&mut self, sockets: bool) -> usize {
        let mut missing = self.contest.news(&self.misplaced());
        let known: Vec<(u32, By)> = self.known.iter().map(|(index, served)| (*index, served.by)).collect();
        for (index, by) in known {
            for hook in HOOKS {
                let held = match by {
                    By::Links => link::holds(&self.pin(hook, index), hook.tcx, Some(index)),
                    By::Filters | By::FiltersOnly => self.classic.is_attached(index, &hook),
                };
                missing += usize::from(!held.unwrap_or(true) && interfaces::exists(index));
            }
        }
        let programs = SOCKET_PROGRAMS.iter().filter(|_| sockets);
        let held =
            |(name, kind): &&(&str, _)| link::holds(&self.links.join(name), *kind, None).unwrap_or(true);
        missing + programs.filter(|program| !held(program)).count()
    }

    /// Forgets what is attached, so that the next [`Self::sync`] attaches everything again.
    pub(super) fn distrust(&mut self) {
        self.known.clear();
    }
}

/// Ends the links of the socket programs whose pins are in this folder.
pub(super) fn detach_sockets(links: &Path) -> Result<(), AttachError> {
    SOCKET_PROGRAMS
        .iter()
        .try_for_each(|(program, _)| link::detach(&links.join(program)))
        .map_err(failed("end a cgroup link"))
}

/// Removes shunt's filters from an interface; the qdisc too if shunt made it (`own_qdisc`) and nobody else uses it.
pub(super) fn remove_filters(classic: &mut Classic, index: u32, own_qdisc: bool) -> io::Result<()> {
    let mut used = false;
    for hook in &HOOKS {
        classic.detach(index, hook)?;
        used |= classic.is_used(index, hook)?;
    }
    if own_qdisc && !used { classic.remove_qdisc(index) } else { Ok(()) }
}

/// Kernels before 6.6 do not know the kind of link.
fn lacks_tcx(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}

fn failed(what: &str) -> impl Fn(io::Error) -> AttachError + '_ {
    move |source| AttachError::Io { what: what.to_owned(), source }
}
