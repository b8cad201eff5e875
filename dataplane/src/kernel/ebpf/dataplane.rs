//! The dataplane behind the trait that `reconcile` knows.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, MutexGuard};
use std::thread;
use std::time::Instant;

use shunt_abi::address::UDP;
use tokio::sync::Notify;

use super::acceleration::Acceleration;
use super::adopt::{Observed, adopt};
use super::attachments::{AttachError, Attachments};
use super::audit::Differences;
use super::balancing::Balancing;
use super::directory::Directory;
use super::failure::{failed, full, refusal, unsupported};
use super::inspect;
use super::known::Known;
use super::map::MapError;
use super::maps::Maps;
use super::masquerade::{Masquerade, Need, TOLD};
use super::model::{Capacities, Model};
use super::monitor::Monitor;
use super::node_config;
use super::observe::observe;
use super::opt_outs::{self, OptOuts};
use super::patience::Patience;
use super::predecessor::{Carried, Predecessor, leave_schema};
use super::programs::{Programs, ProgramsError};
use super::service::Surroundings;
use super::settings::Settings;
use super::shared::{Shared, State};
use super::trial;
use super::watcher;
use super::words;
use super::worker::{self, Job};
use super::write::{Step, Writes};
use crate::domain::{IpFamily, LocalDetector};
use crate::kernel::monitor::current_addresses;
use crate::kernel::{Applied, Dataplane, DataplaneError, Inspected, Inspection, Observations};
use crate::plan::{Changes, Frontend, Globals, Table};

/// Services as BPF programs on every interface, and on the sockets of a cgroup.
#[derive(Debug)]
pub struct Ebpf {
    settings: Settings,
    directory: Directory,
    shared: Arc<Shared>,
    balancing: Balancing,
    acceleration: Acceleration,
    jobs: Sender<Job>,
    /// Programs are attached and the watcher runs.
    started: bool,
    /// Connections of another dataplane may live: see [`Ebpf::set_takes_over`].
    takes_over: bool,
    /// Connections of another dataplane live on in connection tracking.
    keeps_nat: bool,
    /// Agents with maps of other layouts or sizes, whose programs still run.
    earlier: Vec<Predecessor>,
}

impl Ebpf {
    /// Loads the programs into the kernel, and the maps or what an earlier agent left of them. Nothing is attached or
    /// changed before the first [`Dataplane::restore`].
    pub fn new(settings: Settings) -> Result<Self, DataplaneError> {
        let directory = Directory::new(&settings.bpffs_root, &settings.sizes);
        directory.create().map_err(unsupported("a place for pins"))?;
        let pristine = !directory.has_maps();
        let mut balancing = Balancing::new(&settings);
        let wants_sockets = balancing.cgroup().is_some();
        let acceleration = Acceleration::decide(settings.accelerate, &directory.maps());
        let programs = load(&directory, wants_sockets, &settings, &acceleration)
            .map_err(|error| unsupported("what the BPF programs need")(io::Error::other(words(&error))))?;
        balancing.set_names_refusals(programs.names_refusals);
        if let Some(error) = &programs.no_sockets {
            balancing.give_up(&words(error));
        }
        let mut maps = Maps::open(&directory.maps()).map_err(|error| failed("open the maps", &error))?;
        if settings.sizes.counts_services() {
            maps.count_services(&directory.maps()).map_err(|error| failed("open the maps", &error))?;
        }
        leave_schema(&directory.maps()).map_err(|error| failed("describe the maps", &error))?;
        let others = directory.others().map_err(unsupported("a place for pins"))?;
        let attaching = settings.attaching.clone();
        let mut attachments =
            Attachments::new(programs, directory.links(), settings.detectors.clone(), attaching)
                .map_err(|error| failed("open a socket", &error))?;
        if acceleration.has_flows() {
            attachments.accelerate();
        }
        let masquerade = Masquerade::new(settings.masquerade_mark);
        let shared = Arc::new(Shared::new(maps, attachments, masquerade, pristine));
        let (jobs, asked) = channel();
        let path = balancing.path().map(ToOwned::to_owned);
        let patience = Patience { idle: settings.tcp_idle_seconds };
        let worker = Arc::clone(&shared);
        thread::Builder::new()
            .name("ebpf-flows".into())
            .spawn(move || worker::run(&worker, &asked, path.as_deref(), patience))
            .map_err(|error| failed("start a thread", &error))?;
        Ok(Self {
            settings,
            directory,
            shared,
            balancing,
            acceleration,
            jobs,
            started: false,
            takes_over: false,
            keeps_nat: false,
            earlier: others.into_iter().map(Predecessor::open).collect(),
        })
    }

    /// Has `drifted` signalled when somebody else removes what this dataplane has attached, or its rule; an audit then
    /// says how much.
    pub fn tell_of_drift(&self, drifted: Arc<Notify>) {
        self.shared.tell_of_drift(drifted);
    }

    /// Whether a connection of another dataplane may live on in connection tracking: segments in the middle of connections
    /// that are not known are left to it then. Before the first [`Dataplane::restore`]; not so unless it is said.
    pub const fn set_takes_over(&mut self, takes_over: bool) {
        self.takes_over = takes_over;
    }

    /// Takes the pods that want their sockets to be left alone; none without socket load balancing.
    pub fn opt_outs(&self) -> Option<OptOuts> {
        let cgroup = self.balancing.path()?;
        let started = opt_outs::start(&self.shared, cgroup);
        started
            .inspect_err(|error| tracing::warn!("no pod can opt out of socket load balancing: {error}"))
            .ok()
    }

    fn configure(&mut self, globals: &Globals) -> Result<(), DataplaneError> {
        let earlier = || self.earlier.iter().find_map(Predecessor::config);
        let new = self.shared.configure(|own| {
            let old = if own.hash_seed == 0 { earlier().unwrap_or(*own) } else { *own };
            let mut new =
                node_config::build(&self.settings, &globals.service_cidrs, &old, self.balancing.cookie)
                    .map_err(unsupported("room for what is configured"))?;
            if self.takes_over {
                new.flags &= !shunt_abi::config::ADOPT_MIDSTREAM;
            }
            new.flags |= own.flags & TOLD;
            if self.settings.sizes.counts_services() {
                new.flags |= shunt_abi::config::COUNT_SERVICES;
            }
            Ok::<_, DataplaneError>(self.acceleration.configure(new))
        })?;
        self.keeps_nat = new.flags & shunt_abi::config::ADOPT_MIDSTREAM == 0;
        Ok(())
    }

    fn surroundings(&self) -> Result<Surroundings, DataplaneError> {
        let knows_pods = |family: &IpFamily| *self.settings.detectors.get(*family) != LocalDetector::None;
        Ok(Surroundings {
            host_addresses: current_addresses()
                .map_err(|error| failed("list this node's addresses", &error))?,
            masquerade_all: self.settings.masquerade_all,
            pods_are_known: IpFamily::ALL.into_iter().filter(knows_pods).collect(),
            ..Surroundings::default()
        })
    }

    fn capacities(&self) -> Capacities {
        let maps = &self.shared.maps;
        Capacities {
            backends: maps.backends.capacity(),
            pool: maps.pool.capacity(),
            services: self.settings.sizes.services,
            frontends: maps.frontends4.capacity().min(maps.frontends6.capacity()),
            source_ranges: self.settings.sizes.source_ranges,
        }
    }

    /// Writes, with the masquerade rule there before it is needed, and gone when it is not.
    fn commit(
        &mut self,
        mut state: MutexGuard<'_, State>,
        model: Model,
        writes: &Writes,
    ) -> Result<Applied, DataplaneError> {
        let need = |family| if self.keeps_nat { Need::Always } else { model.masquerades(family) };
        for family in IpFamily::ALL {
            let raised = self.shared.masquerade().raise(family, need(family), self.shared.signals());
            raised.map_err(|error| failed("install the masquerade rule", &error))?;
        }
        if let Err(error) = self.shared.maps.write(writes, &mut state.known) {
            return Err(refusal(&model, &error));
        }
        for family in IpFamily::ALL {
            let settled = self.shared.masquerade().settle(family, need(family), self.shared.signals());
            settled.map_err(|error| failed("remove the masquerade rule", &error))?;
        }
        state.model = Some(model);
        let (written, removed) = writes.sizes();
        Ok(Applied { written, removed })
    }

    /// Sockets may be connected to backends that are gone.
    fn look_for_sockets(&self) {
        if self.balancing.works() && self.jobs.send(Job::Sockets).is_err() {
            tracing::warn!("the thread that looks for sockets without backend has ended");
        }
    }

    /// Attaches what is not attached; at first also starts to watch for interfaces.
    fn attach(&mut self) -> Result<(), AttachError> {
        let begun = Instant::now();
        let monitor = Monitor::new();
        let map = &self.shared.maps.interfaces;
        let mut attachments = self.shared.attachments();
        if attachments.begin_to_move() {
            // A program cannot be at a second place before it has left the first, so ours make room for others.
            tracing::info!("a program that interfaceOrder names has come: placing ours anew");
            let sockets = self.balancing.cgroup().is_some();
            attachments.renew(load(&self.directory, sockets, &self.settings, &self.acceleration)?);
        }
        attachments.pin_tails()?;
        attachments.distrust();
        attachments.sync(map)?;
        attachments.sweep(map)?;
        self.balancing.attach(&mut attachments)?;
        self.shared.set_sockets(self.balancing.works());
        attachments.drop_old_tails()?;
        tracing::debug!(interfaces = attachments.interfaces(), took = ?begun.elapsed(), "programs are attached");
        drop(attachments);
        if !self.started {
            let io = |what: &str| {
                let what = what.to_owned();
                move |source| AttachError::Io { what, source }
            };
            let monitor = monitor.map_err(io("watch the interfaces"))?;
            let shared = Arc::downgrade(&self.shared);
            thread::Builder::new()
                .name("ebpf-interfaces".into())
                .spawn(move || watcher::watch(monitor, &shared))
                .map_err(io("start a thread"))?;
            self.started = true;
        }
        Ok(())
    }

    /// Brings the maps to exactly the table.
    fn program(&mut self, table: &Table) -> Result<Applied, DataplaneError> {
        let now = Instant::now();
        self.shared.masquerade().distrust();
        let around = self.surroundings()?;
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        state.model = None;
        let maps = &shared.maps;
        let read = |error: MapError| failed("read what is programmed", &error);
        let observed = if std::mem::take(&mut state.pristine) {
            state.known = Known::nothing(maps);
            Observed::default()
        } else {
            state.known = Known::read(maps).map_err(read)?;
            maps.observe(maps.backends.capacity(), 0).map_err(read)?
        };
        shared.know_addresses(&around.host_addresses, &mut state.known).map_err(read)?;
        let (model, writes) = adopt(&observed, table, around, (self.capacities(), generation()), now);
        self.commit(state, model, &writes)
    }

    /// Takes the place of earlier agents whose maps are others: see [`Predecessor`] for the order.
    fn succeed(&mut self, table: &Table) -> Result<Applied, DataplaneError> {
        let applied = self.program(table)?;
        let before = self.carry();
        // What the earlier programs translate must not be seen by ours first.
        self.shared.attachments().stay_behind(true);
        self.attach().map_err(|error| failed("attach the programs", &error))?;
        for earlier in &self.earlier {
            earlier.take_no_more();
        }
        let after = self.carry();
        let removed = self.directory.remove_others();
        removed.map_err(|error| failed("remove the programs of an earlier build", &error))?;
        self.shared.attachments().stay_behind(false);
        tracing::info!(%before, %after, "took the place of an earlier build");
        self.earlier.clear();
        Ok(applied)
    }

    /// Copies what flows and clients of earlier agents hold.
    fn carry(&self) -> Carried {
        let mut state = self.shared.state();
        let Some(model) = &state.model else { return Carried::default() };
        let carried = self.earlier.iter().map(|earlier| earlier.carry(model, &self.shared.maps));
        let carried = carried.fold(Carried::default(), Carried::plus);
        match Known::read(&self.shared.maps) {
            Ok(known) => state.known = known,
            Err(error) => tracing::warn!("reading what backends of earlier flows are: {error}"),
        }
        carried
    }
}

impl Dataplane for Ebpf {
    fn restore(&mut self, table: &Table) -> Result<Applied, DataplaneError> {
        self.configure(&table.globals)?;
        let applied = if self.earlier.is_empty() {
            // Before the frontends: once one works anywhere, it works on every interface.
            self.attach().map_err(|error| failed("attach the programs", &error))?;
            self.program(table)?
        } else {
            self.succeed(table)?
        };
        self.look_for_sockets();
        Ok(applied)
    }

    fn apply(&mut self, changes: &Changes) -> Result<Applied, DataplaneError> {
        if let Some(globals) = &changes.globals {
            self.configure(globals)?;
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        let Some(mut model) = state.model.take() else {
            let source = io::Error::other("what is programmed is not known any more");
            return Err(DataplaneError::Transaction { operation: "apply changes".to_owned(), source });
        };
        let writes = model.apply(changes, Instant::now());
        let applied = self.commit(state, model, &writes)?;
        let frees = |step: &Step| matches!(step, Step::Backend(_, value) if value.generation == 0);
        let is_udp = |change: &crate::plan::Change| change.frontend.protocol.number() == UDP;
        if writes.after.iter().any(frees) && changes.frontends.iter().any(is_udp) {
            self.look_for_sockets();
        }
        Ok(applied)
    }

    fn audit(&mut self, _table: &Table) -> Result<usize, DataplaneError> {
        let state = self.shared.state();
        let Some(model) = &state.model else { return Ok(1) };
        let read = |error| failed("read what is programmed", &error);
        let observed =
            self.shared.maps.observe(model.resources.backends.end(), model.pool_end()).map_err(read)?;
        let known = Known::read(&self.shared.maps).map_err(read)?;
        let mut differences = Differences::between(model, &observed);
        differences.add_lost_bits(&state.known, &known);
        differences.log();
        let better = usize::from(model.could_do_better(Instant::now()));
        drop(state);
        self.shared.set_sockets(self.balancing.works());
        let missing = self.shared.missing();
        Ok(differences.number()
            + better
            + missing.map_err(|error| failed("read the masquerade rule", &error))?)
    }

    fn cleanup(&mut self) -> Result<(), DataplaneError> {
        self.shared.state().model = None;
        super::cleanup(&self.settings.bpffs_root).map_err(|error| failed("clean up", &error))
    }

    fn left_out(&mut self) -> Option<Vec<(Frontend, String)>> {
        let capacities = self.capacities();
        let mut state = self.shared.state();
        let found = state.model.as_mut()?.take_shortage()?;
        let mut frontends: BTreeMap<&'static str, usize> = BTreeMap::new();
        for (_, map) in &found {
            *frontends.entry(map).or_default() += 1;
        }
        for (map, frontends) in frontends {
            tracing::warn!(map, frontends, "{}", full(map, &capacities));
        }
        Some(found.into_iter().map(|(frontend, map)| (frontend, full(map, &capacities))).collect())
    }

    fn needs_clean_conntrack(&self) -> bool {
        self.keeps_nat
    }

    fn programmed(&self) -> Vec<(&'static str, u64)> {
        let state = self.shared.state();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let (mut frontends, mut backends, mut pool) = (0, 0, 0);
        if let Some(model) = &state.model {
            frontends = model.frontends();
            backends = model.resources.backends.used();
            pool = usize::try_from(model.resources.pool.used()).unwrap_or(usize::MAX);
        }
        drop(state);
        vec![
            ("frontends", frontends),
            ("backends", count(backends)),
            ("pool slots", count(pool)),
            ("interfaces", count(self.shared.attachments().interfaces())),
        ]
    }

    fn inspect(&mut self, inspection: &Inspection) -> Result<Inspected, DataplaneError> {
        let mut inspected = Inspected::default();
        let maps = &self.shared.maps;
        inspect::maps(maps, &self.directory.maps(), &inspection.question, &mut inspected)
            .map_err(|error| failed("read the maps", &error))?;
        let mut attachments = self.shared.attachments();
        inspected.note("acceleration", self.acceleration.words(attachments.shortcuts()));
        inspected.note("programs", format!("on {} interfaces", attachments.interfaces()));
        if inspection.probe {
            match trial::run(maps, &mut attachments, &inspection.question) {
                Ok(trial) => inspected.probe = Some(trial),
                Err(reason) => inspected.note("probe", format!("not possible: {reason}")),
            }
        }
        Ok(inspected)
    }

    fn shortcomings(&self) -> Vec<String> {
        let mut found = self.balancing.shortcomings();
        if self.shared.attachments().lacks_links() {
            found.push(
                "clsact filters take the place of tcx links (6.6): interfaceOrder has no effect, filterPriority has"
                    .to_owned(),
            );
        }
        if let Acceleration::Lacking(summary) = &self.acceleration {
            found.push(format!("packets are not accelerated: {summary}"));
        }
        let lost = self.shared.not_found();
        found.extend(lost.iter().map(|pod| {
            format!("sockets of pod {pod} are balanced although it opted out: no cgroup of it is found")
        }));
        found
    }

    fn remarks(&self) -> Vec<String> {
        if !self.acceleration.has_flows() {
            return Vec::new();
        }
        let words = self.acceleration.words(self.shared.attachments().shortcuts());
        vec![format!("acceleration: {words}")]
    }

    fn observations(&self) -> Observations {
        observe(&self.shared, &self.settings.sizes)
    }
}

fn load(
    directory: &Directory,
    sockets: bool,
    settings: &Settings,
    acceleration: &Acceleration,
) -> Result<Programs, ProgramsError> {
    Programs::load(&directory.maps(), sockets, Some(&settings.sizes), acceleration.has_flows())
}

/// The first generation of backends. Not the time of day: an agent gives more of them than seconds pass.
fn generation() -> u32 {
    rand::random::<u32>().max(1)
}
