//! A table with one rule: masquerade what carries a mark. It is what the eBPF dataplane leaves to the kernel, and exists
//! only while some frontend needs it, because it loads connection tracking.

use std::io;
use std::ops::RangeInclusive;

use super::encode::{self, expressions_into, protocol_family};
use super::expression::{Expression, Register, Rule};
use super::operation::message;
use super::watch::tells_of;
use crate::domain::IpFamily;
use crate::kernel::netlink::{Batch, Socket, Writer, find_text};

/// Name of the tables, one in each family.
pub const MARK_TABLE: &str = "shunt-ebpf";
const CHAIN: &str = "masquerade";

/// Makes the table of a family hold exactly the rule, in one transaction. What is masqueraded gets one of `ports`, or of
/// all but the privileged ones.
pub fn install_masquerade(
    socket: &mut Socket,
    family: IpFamily,
    mark: u32,
    ports: Option<&RangeInclusive<u16>>,
) -> io::Result<()> {
    let mut batch = Batch::new(protocol_family(family));
    replace(&mut batch);
    batch.push(message::NEW_TABLE, libc::NLM_F_CREATE, table);
    batch.push(message::NEW_CHAIN, libc::NLM_F_CREATE, chain);
    batch.push(message::NEW_RULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND, |message| {
        rule(message, mark, ports);
    });
    batch.commit(socket).map_err(|error| error.source)
}

/// Removes the table of a family. Nothing there is not an error.
pub fn remove_masquerade(socket: &mut Socket, family: IpFamily) -> io::Result<()> {
    let mut batch = Batch::new(protocol_family(family));
    replace(&mut batch);
    batch.commit(socket).map_err(|error| error.source)
}

/// Whether the table of a family is there with its rule.
pub fn has_masquerade(socket: &mut Socket, family: IpFamily) -> io::Result<bool> {
    Ok(rules_in(socket, family, MARK_TABLE)? == 1)
}

/// Whether a datagram of notifications tells that something of the table changed.
pub fn tells_of_mark_table(datagram: &[u8]) -> bool {
    tells_of(datagram, MARK_TABLE, None)
}

/// Whether the tables of the nftables dataplane are there, in either family.
pub fn is_present() -> io::Result<bool> {
    let mut socket = Socket::netfilter()?;
    for family in IpFamily::ALL {
        if rules_in(&mut socket, family, encode::TABLE)? > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

fn rules_in(socket: &mut Socket, family: IpFamily, table: &str) -> io::Result<usize> {
    const SUBSYSTEM: u16 = 10 << 8;
    let request = (SUBSYSTEM | message::GET_RULE, libc::NLM_F_DUMP);
    let mut wanted = vec![protocol_family(family), 0, 0, 0];
    // Kernels that cannot look at one table only show all of them.
    Writer::new(&mut wanted).text(1, table);
    socket.request(request, &wanted, |count: &mut usize, message| {
        let attributes = message.payload.get(4..).unwrap_or_default();
        *count += usize::from(find_text(attributes, 1) == Some(table));
    })
}

/// Adding the table first makes it exist, so that deleting it cannot fail for want of it.
fn replace(batch: &mut Batch) {
    batch.push(message::NEW_TABLE, libc::NLM_F_CREATE, table);
    batch.push(message::DELETE_TABLE, 0, table);
}

fn table(message: &mut Writer<'_>) {
    message.text(1, MARK_TABLE);
}

fn chain(message: &mut Writer<'_>) {
    const POSTROUTING: u32 = 4;
    const SRCNAT: u32 = 100;
    const ACCEPT: u32 = 1;
    message.text(1, MARK_TABLE).text(3, CHAIN);
    message.nested(4, |hook| {
        hook.u32(1, POSTROUTING).u32(2, SRCNAT);
    });
    message.u32(5, ACCEPT).text(7, "nat");
}

fn rule(message: &mut Writer<'_>, mark: u32, ports: Option<&RangeInclusive<u16>>) {
    let rule = masquerade(Rule::new().mark_has(mark).clear_mark_bits(mark), ports);
    message.text(1, MARK_TABLE).text(2, CHAIN);
    message.nested(4, |list| expressions_into(list, &rule));
}

fn masquerade(rule: Rule, ports: Option<&RangeInclusive<u16>>) -> Rule {
    let Some(ports) = ports else { return rule.with(Expression::Masquerade) };
    let (first, last) = (Register(0), Register(1));
    rule.with(Expression::Immediate { to: first, value: ports.start().to_be_bytes().into() })
        .with(Expression::Immediate { to: last, value: ports.end().to_be_bytes().into() })
        .with(Expression::MasqueradeWithin { first, last })
}
