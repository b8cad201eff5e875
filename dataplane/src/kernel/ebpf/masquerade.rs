//! The one rule that the eBPF dataplane leaves to the kernel: masquerade what carries the mark.
//!
//! It brings connection tracking to every packet of the node, so it is there only while it is needed. External addresses
//! with remote backends need it before their first client comes. Cluster IPs need it only for clients from outside of
//! the cluster, which most clusters never have: until the first is seen, the programs drop what would have to be
//! masqueraded and count it. The watcher sees that and installs the rule, so that what the client sends again gets
//! through. The rule goes when no such connection is left for a while; one that nothing needs any more, with the last.

use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use shunt_abi::config::{Config, MASQUERADES4, MASQUERADES6};
use shunt_abi::counter::Counter;

use super::map::{CounterMap, MapError, TypedMap};
use super::masquerade_ports;
use super::worker::unpoisoned;
use crate::domain::IpFamily;
use crate::kernel::netlink::Socket;
use crate::kernel::nftables::{has_masquerade, install_masquerade, remove_masquerade};
use crate::plan::PerFamily;

/// Nothing is masqueraded for so long before a rule on demand goes.
const QUIET: Duration = Duration::from_mins(5);

/// Whether the rule is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// By nobody.
    #[default]
    None,
    /// As soon as a client from outside of the cluster addresses a cluster IP.
    OnDemand,
    /// By some frontend.
    Always,
}

/// What the programs read and write about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signals<'a> {
    pub(super) config: &'a TypedMap<u32, Config>,
    /// Held while the configuration is read and written back.
    pub(super) held: &'a Mutex<()>,
    pub(super) counters: &'a CounterMap,
}

/// The rule of one family.
#[derive(Debug, Default)]
struct Rule {
    /// Whether it is there, as far as it was ever looked.
    installed: Option<bool>,
    need: Need,
    /// There are or were connections that need it: a client on demand has come, or it was needed always.
    seen: bool,
    /// What the programs had dropped for want of the rule when it was last looked.
    dropped: Option<u64>,
    /// Nothing is masqueraded any more since then.
    idle_since: Option<Instant>,
    /// The programs let nobody in, although the rule is there: it goes if that changes nothing.
    closing: bool,
}

/// What is to be done about a rule on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// Let no new connection in.
    Close,
    /// Let connections in again.
    Open,
    /// None came in between: the rule goes.
    Remove,
}

impl Rule {
    /// Takes in what is needed now; whether the programs have to let clients in again.
    fn take_need(&mut self, need: Need) -> bool {
        // Connections that are masqueraded live on only with the rule.
        self.seen |= need < self.need && self.installed == Some(true);
        self.need = need;
        // Nobody looks for clients that are turned away while it is needed otherwise, or by nobody for a moment.
        need != Need::OnDemand && std::mem::take(&mut self.closing)
    }

    /// The next step towards the end, with so many connections that are masqueraded.
    fn step(&mut self, connections: u64, now: Instant) -> Step {
        if self.need == Need::Always || !self.seen || connections > 0 {
            self.idle_since = None;
            return if std::mem::take(&mut self.closing) { Step::Open } else { Step::Nothing };
        }
        let again = self.idle_since.is_some();
        let since = *self.idle_since.get_or_insert(now);
        if self.need == Need::None {
            // None can begin any more. The first look may have been too early for the last that did.
            return if again { self.end() } else { Step::Nothing };
        }
        if now.saturating_duration_since(since) < QUIET {
            return Step::Nothing;
        }
        if !self.closing {
            self.closing = true;
            return Step::Close;
        }
        self.end()
    }

    const fn end(&mut self) -> Step {
        (self.closing, self.seen, self.idle_since) = (false, false, None);
        Step::Remove
    }

    /// A client may come that would have to be masqueraded, and is not let in.
    fn awaits_clients(&self) -> bool {
        self.need == Need::OnDemand && (!self.seen || self.closing)
    }

    fn is_wanted(&self) -> bool {
        self.need == Need::Always || self.seen
    }
}

/// The rules of both families.
#[derive(Debug)]
pub(super) struct Masquerade {
    mark: u32,
    rules: PerFamily<Rule>,
}

impl Masquerade {
    pub(super) fn new(mark: u32) -> Self {
        Self { mark, rules: PerFamily::default() }
    }

    /// Before frontends are written: the rule is there if what is written, or what was, needs it.
    pub(super) fn raise(
        &mut self,
        family: IpFamily,
        need: Need,
        signals: Signals<'_>,
    ) -> Result<(), MasqueradeError> {
        let need = need.max(self.rules.get(family).need);
        self.change(family, need, signals)
    }

    /// After frontends were written: the rule is gone if nothing needs it any more.
    pub(super) fn settle(
        &mut self,
        family: IpFamily,
        need: Need,
        signals: Signals<'_>,
    ) -> Result<(), MasqueradeError> {
        self.change(family, need, signals)
    }

    fn change(&mut self, family: IpFamily, need: Need, signals: Signals<'_>) -> Result<(), MasqueradeError> {
        let rule = self.rules.get_mut(family);
        if rule.take_need(need) {
            tell(signals, family, true)?;
        }
        if rule.dropped.is_none() {
            rule.dropped = Some(signals.counters.sum(refusals(family).index())?);
        }
        self.apply(family, signals)
    }

    /// Installs the rule where clients that need it have come.
    pub(super) fn look(&mut self, signals: Signals<'_>) -> Result<(), MasqueradeError> {
        for family in IpFamily::ALL {
            let rule = self.rules.get_mut(family);
            if !rule.awaits_clients() {
                continue;
            }
            let dropped = signals.counters.sum(refusals(family).index())?;
            if rule.dropped.replace(dropped) != Some(dropped) {
                tracing::info!(%family, "a client from outside of the cluster addresses a cluster IP: masquerading begins");
                rule.seen = true;
                if std::mem::take(&mut rule.closing) {
                    rule.idle_since = None;
                    tell(signals, family, true)?;
                }
                self.apply(family, signals)?;
            }
        }
        Ok(())
    }

    /// Takes away what came on demand after nothing was masqueraded for a while. `connections` are those that are now;
    /// called every few seconds.
    pub(super) fn idle(
        &mut self,
        family: IpFamily,
        connections: u64,
        now: Instant,
        signals: Signals<'_>,
    ) -> Result<(), MasqueradeError> {
        let rule = self.rules.get_mut(family);
        match rule.step(connections, now) {
            Step::Nothing => Ok(()),
            Step::Open => Ok(tell(signals, family, true)?),
            Step::Close => {
                // Who is turned away from now on has the rule stay, or come back.
                rule.dropped = Some(signals.counters.sum(refusals(family).index())?);
                Ok(tell(signals, family, false)?)
            }
            Step::Remove => {
                tracing::info!(%family, "no client of a cluster IP is masqueraded any more: the rule goes");
                self.apply(family, signals)
            }
        }
    }

    /// Whether a client may come that needs a rule which is not there.
    pub(super) fn awaits_clients(&self) -> bool {
        IpFamily::ALL.into_iter().any(|family| self.rules.get(family).awaits_clients())
    }

    fn apply(&mut self, family: IpFamily, signals: Signals<'_>) -> Result<(), MasqueradeError> {
        let mark = self.mark;
        let rule = self.rules.get_mut(family);
        if rule.installed == Some(rule.is_wanted()) {
            return Ok(());
        }
        let mut socket = Socket::netfilter()?;
        // Without nftables in the kernel there is none.
        let found = has_masquerade(&mut socket, family).unwrap_or(false);
        // An earlier agent has seen clients, and their connections may live.
        rule.seen |= rule.installed.is_none() && found;
        let wanted = rule.is_wanted();
        match (found, wanted) {
            // One that was found may choose ports as another build did, or for other settings.
            (_, true) => {
                install_masquerade(&mut socket, family, mark, masquerade_ports::choose().as_ref())?;
            }
            (true, false) => {
                tell(signals, family, false)?;
                remove_masquerade(&mut socket, family)?;
            }
            (false, false) => {}
        }
        tell(signals, family, wanted)?;
        rule.installed = Some(wanted);
        Ok(())
    }

    /// Whether the rule of a family is not as it was last set.
    pub(super) fn differs(&self, family: IpFamily) -> io::Result<bool> {
        match self.rules.get(family).installed {
            Some(true) => Ok(!has_masquerade(&mut Socket::netfilter()?, family)?),
            Some(false) | None => Ok(false),
        }
    }

    /// Looks again next time.
    pub(super) const fn distrust(&mut self) {
        self.rules.v4.installed = None;
        self.rules.v6.installed = None;
    }
}

/// Why the rule could not be put in order.
#[derive(Debug, thiserror::Error)]
pub(super) enum MasqueradeError {
    #[error(transparent)]
    Map(#[from] MapError),
    #[error(transparent)]
    Rule(#[from] io::Error),
}

/// Counts what is dropped for want of the rule.
const fn refusals(family: IpFamily) -> Counter {
    match family {
        IpFamily::V4 => Counter::DropUnmasqueraded4,
        IpFamily::V6 => Counter::DropUnmasqueraded6,
    }
}

/// The bits of the configuration by which the programs know that the rules are there.
pub(super) const TOLD: u32 = MASQUERADES4 | MASQUERADES6;

/// Tells the programs whether the rule is there.
fn tell(signals: Signals<'_>, family: IpFamily, there: bool) -> Result<(), MapError> {
    let _held = unpoisoned(signals.held.lock());
    let old = signals.config.get(&0)?.unwrap_or_default();
    let bit = if family == IpFamily::V4 { MASQUERADES4 } else { MASQUERADES6 };
    let flags = if there { old.flags | bit } else { old.flags & !bit };
    if flags == old.flags { Ok(()) } else { signals.config.set(&0, &Config { flags, ..old }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_demand() -> Rule {
        Rule { need: Need::OnDemand, seen: true, installed: Some(true), ..Rule::default() }
    }

    #[test]
    fn a_rule_on_demand_goes_after_a_quiet_while_and_a_last_look() {
        let (mut rule, start) = (on_demand(), Instant::now());
        assert_eq!(rule.step(2, start), Step::Nothing);
        assert_eq!(rule.step(0, start), Step::Nothing);
        assert_eq!(rule.step(0, start + QUIET / 2), Step::Nothing);
        assert!(!rule.awaits_clients());
        assert_eq!(rule.step(0, start + QUIET), Step::Close);
        assert!(rule.awaits_clients() && rule.is_wanted());
        assert_eq!(rule.step(0, start + QUIET), Step::Remove);
        assert!(rule.awaits_clients() && !rule.is_wanted());
    }

    #[test]
    fn a_connection_keeps_the_rule() {
        let (mut rule, start) = (on_demand(), Instant::now());
        rule.step(0, start);
        assert_eq!(rule.step(1, start + QUIET), Step::Nothing);
        assert_eq!(rule.step(0, start + QUIET), Step::Nothing, "the while begins anew");
        assert_eq!(rule.step(0, start + QUIET * 2), Step::Close);
        assert_eq!(rule.step(1, start + QUIET * 2), Step::Open, "it came before nobody was let in");
        assert!(rule.is_wanted() && !rule.awaits_clients());
    }

    #[test]
    fn a_rule_that_nothing_needs_any_more_goes_with_the_last_connection() {
        let (mut rule, start) = (Rule { need: Need::None, ..on_demand() }, Instant::now());
        assert_eq!(rule.step(1, start), Step::Nothing);
        assert_eq!(rule.step(0, start), Step::Nothing, "one may have begun since it was counted");
        assert!(rule.is_wanted());
        assert_eq!(rule.step(0, start), Step::Remove);
        assert!(!rule.is_wanted() && !rule.awaits_clients());
    }

    #[test]
    fn clients_are_let_in_again_when_nothing_needed_the_rule_for_a_moment_before_it_went() {
        let (mut rule, start) = (on_demand(), Instant::now());
        rule.step(0, start);
        assert_eq!(rule.step(0, start + QUIET), Step::Close);
        assert!(rule.take_need(Need::None), "the rule is still there, and nobody would look for clients");
        assert!(!rule.take_need(Need::OnDemand) && rule.is_wanted() && !rule.awaits_clients());
        assert_eq!(rule.step(0, start + QUIET), Step::Close, "it goes as if nothing had been");
        assert!(!rule.take_need(Need::OnDemand) && rule.awaits_clients());
    }

    #[test]
    fn rules_that_are_always_needed_stay() {
        let mut rule = Rule { need: Need::Always, ..on_demand() };
        let start = Instant::now();
        rule.step(0, start);
        assert_eq!(rule.step(0, start + QUIET * 2), Step::Nothing);
        assert!(rule.is_wanted() && !rule.awaits_clients());
    }
}
