//! What is really in a table.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use super::element::{Bytes, Element, Extent, Key, Value};
use super::encode::{self, number};
use super::expression::Verdict;
use super::operation::message;
use crate::domain::IpFamily;
use crate::kernel::netlink::{Attributes, Message, Socket, Writer, find, find_text, find_u32};

/// `NFTA_TABLE_FLAGS`
const TABLE_FLAGS: u16 = 2;
/// `NFTA_*_TABLE`
const OBJECT_TABLE: u16 = 1;
/// `NFTA_SET_NAME`, `NFTA_RULE_CHAIN`
const OBJECT_NAME: u16 = 2;
/// `NFTA_CHAIN_NAME`
const CHAIN_NAME: u16 = 3;
/// `NFTA_RULE_EXPRESSIONS`
const RULE_EXPRESSIONS: u16 = 4;

/// A table as it is: objects by name, as the attributes that the kernel dumps.
#[derive(Debug, Default)]
pub(super) struct Actual {
    /// Somebody switched the table off (`flags dormant`) or gave it away.
    pub(super) flags: u32,
    pub(super) sets: HashMap<Arc<str>, Vec<u8>>,
    pub(super) chains: HashMap<Arc<str>, Vec<u8>>,
    /// The expressions of each rule, by chain.
    pub(super) rules: HashMap<Arc<str>, Vec<Vec<u8>>>,
    pub(super) elements: HashMap<Arc<str>, HashSet<Element>>,
}

/// Reads tables through one socket.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) socket: &'a mut Socket,
    pub(super) family: IpFamily,
}

impl Reader<'_> {
    /// Everything but elements; `None` if there is no such table.
    pub(super) fn structure(&mut self) -> io::Result<Option<Actual>> {
        let Some(flags) = self.table_flags()? else { return Ok(None) };
        let sets = self.named(message::GET_SET, OBJECT_NAME)?;
        let chains = self.named(message::GET_CHAIN, CHAIN_NAME)?;
        Ok(Some(Actual { flags, sets, chains, rules: self.rules()?, elements: HashMap::new() }))
    }

    fn table_flags(&mut self) -> io::Result<Option<u32>> {
        let payload = self.payload(encode::table_name);
        let kind = (nftables_message(message::GET_TABLE), 0);
        let answer = self.socket.request(kind, &payload, |flags: &mut u32, message| {
            *flags = attributes(&message).and_then(|bytes| find_u32(bytes, TABLE_FLAGS)).unwrap_or(0);
        });
        match answer {
            Ok(flags) => Ok(Some(flags)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn named(&mut self, kind: u16, name: u16) -> io::Result<HashMap<Arc<str>, Vec<u8>>> {
        self.dump(kind, encode::table_name, |objects: &mut HashMap<_, _>, bytes| {
            if let Some(name) = find_text(bytes, name).filter(|_| is_ours(bytes)) {
                objects.insert(Arc::from(name), bytes.to_vec());
            }
        })
    }

    fn rules(&mut self) -> io::Result<HashMap<Arc<str>, Vec<Vec<u8>>>> {
        self.dump(message::GET_RULE, encode::table_name, |rules: &mut HashMap<_, Vec<_>>, bytes| {
            if let Some(chain) = find_text(bytes, OBJECT_NAME).filter(|_| is_ours(bytes)) {
                let expressions = find(bytes, RULE_EXPRESSIONS).unwrap_or_default();
                rules.entry(Arc::from(chain)).or_default().push(expressions.to_vec());
            }
        })
    }

    /// The elements of one set.
    pub(super) fn elements(&mut self, set: &str) -> io::Result<HashSet<Element>> {
        let mut chains: HashSet<Arc<str>> = HashSet::new();
        let request = |message: &mut Writer<'_>| encode::elements_of(message, set);
        self.dump(message::GET_ELEMENTS, request, |elements: &mut HashSet<_>, bytes| {
            let list = find(bytes, number::LIST_ELEMENTS).unwrap_or_default();
            elements.extend(Attributes::new(list).map(|item| element(item.payload, &mut chains)));
        })
    }

    /// The elements that a request names.
    pub(super) fn one_element(&mut self, request: impl FnOnce(&mut Writer<'_>)) -> io::Result<Vec<Element>> {
        let payload = self.payload(request);
        let kind = (nftables_message(message::GET_ELEMENTS), 0);
        self.socket.request(kind, &payload, |found: &mut Vec<Element>, message| {
            let bytes = attributes(&message).unwrap_or_default();
            let list = find(bytes, number::LIST_ELEMENTS).unwrap_or_default();
            found.extend(Attributes::new(list).map(|item| element(item.payload, &mut HashSet::new())));
        })
    }

    fn dump<T: Default>(
        &mut self,
        kind: u16,
        request: impl FnOnce(&mut Writer<'_>),
        mut each: impl FnMut(&mut T, &[u8]),
    ) -> io::Result<T> {
        let payload = self.payload(request);
        self.socket.request((nftables_message(kind), libc::NLM_F_DUMP), &payload, |answer, message| {
            if let Some(bytes) = attributes(&message) {
                each(answer, bytes);
            }
        })
    }

    fn payload(&self, attributes: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut bytes = vec![encode::protocol_family(self.family), 0, 0, 0];
        attributes(&mut Writer::new(&mut bytes));
        bytes
    }
}

/// An nftables message type in nfnetlink's numbering.
pub(super) const fn nftables_message(kind: u16) -> u16 {
    const SUBSYSTEM: u16 = 10;
    (SUBSYSTEM << 8) | kind
}

/// What follows the family header.
pub(super) fn attributes<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    message.payload.get(4..)
}

/// Kernels before 6.x do not filter all dumps by table.
fn is_ours(bytes: &[u8]) -> bool {
    find_text(bytes, OBJECT_TABLE) == Some(encode::TABLE)
}

fn element(bytes: &[u8], chains: &mut HashSet<Arc<str>>) -> Element {
    let data_value = |kind| find(bytes, kind).and_then(|data| find(data, number::VALUE));
    let key = data_value(number::KEY).and_then(Bytes::from_kernel);
    let end = data_value(number::KEY_END).and_then(Key::from_kernel);
    let behind = find_u32(bytes, number::FLAGS).unwrap_or(0) & number::INTERVAL_END != 0;
    Element {
        key: key.unwrap_or(Key::new()),
        extent: match end {
            Some(end) => Extent::UpTo(Box::new(end)),
            None if behind => Extent::Behind,
            None => Extent::Start,
        },
        value: if key.is_some() { value(bytes, chains) } else { Value::Foreign },
    }
}

fn value(bytes: &[u8], chains: &mut HashSet<Arc<str>>) -> Value {
    let Some(data) = find(bytes, number::DATA) else { return Value::None };
    if let Some(verdict) = find(data, number::VERDICT) {
        return self::verdict(verdict, chains).map_or(Value::Foreign, Value::Verdict);
    }
    let endpoint = find(data, number::VALUE).and_then(Bytes::from_kernel);
    endpoint.map_or(Value::Foreign, Value::Endpoint)
}

fn verdict(bytes: &[u8], chains: &mut HashSet<Arc<str>>) -> Option<Verdict> {
    // Thousands of elements lead to the same few chains.
    let mut chain = || {
        let name = find_text(bytes, number::VERDICT_CHAIN)?;
        if let Some(known) = chains.get(name) {
            return Some(Arc::clone(known));
        }
        let name: Arc<str> = name.into();
        chains.insert(Arc::clone(&name));
        Some(name)
    };
    match find_u32(bytes, number::VERDICT_CODE)? {
        number::DROP => Some(Verdict::Drop),
        number::RETURN => Some(Verdict::Return),
        number::GOTO => Some(Verdict::Goto(chain()?)),
        number::JUMP => Some(Verdict::Jump(chain()?)),
        _ => None,
    }
}
