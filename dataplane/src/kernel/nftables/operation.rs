//! The steps of a transaction, and what it means when the kernel refuses one.

use std::sync::Arc;

use super::element::{Element, Key, owner, unspecified};
use super::encode::{self, number};
use super::expression::Rule;
use super::layout::Chain;
use super::set::{SetDefinition, StaticSet};
use crate::domain::IpFamily;
use crate::kernel::DataplaneError;
use crate::kernel::netlink::{Attributes, Batch, BatchError, Writer};

/// `NFT_MSG_*`
pub(super) mod message {
    pub(in super::super) const NEW_TABLE: u16 = 0;
    pub(in super::super) const GET_TABLE: u16 = 1;
    pub(in super::super) const DELETE_TABLE: u16 = 2;
    pub(in super::super) const NEW_CHAIN: u16 = 3;
    pub(in super::super) const GET_CHAIN: u16 = 4;
    pub(in super::super) const DELETE_CHAIN: u16 = 5;
    pub(in super::super) const NEW_RULE: u16 = 6;
    pub(in super::super) const GET_RULE: u16 = 7;
    pub(in super::super) const DELETE_RULE: u16 = 8;
    pub(in super::super) const NEW_SET: u16 = 9;
    pub(in super::super) const GET_SET: u16 = 10;
    pub(in super::super) const DELETE_SET: u16 = 11;
    pub(in super::super) const NEW_ELEMENTS: u16 = 12;
    pub(in super::super) const GET_ELEMENTS: u16 = 13;
    pub(in super::super) const DELETE_ELEMENTS: u16 = 14;
}

/// Attributes are at most 64 KiB long, and the list of elements is one of them.
const LIST_LIMIT: usize = 60_000;

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    AddTable,
    DeleteTable,
    AddSet(SetDefinition),
    DeleteSet(Arc<str>),
    /// Removes all elements.
    ClearSet(Arc<str>),
    /// Without its rules.
    AddChain(Chain),
    /// With its rules.
    DeleteChain(Arc<str>),
    /// Removes all rules.
    ClearChain(Arc<str>),
    AddRule(Arc<str>, Rule),
    AddElements(Arc<str>, Vec<Element>),
    DeleteElements(Arc<str>, Vec<Element>),
}

/// What a transaction has to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) required: Vec<Operation>,
    /// Deletions of what nothing refers to any more. Kernels before 6.2 may take a moment to see that.
    pub(super) cleanup: Vec<Operation>,
}

impl Work {
    pub(super) fn is_empty(&self) -> bool {
        self.required.is_empty() && self.cleanup.is_empty()
    }

    /// Objects added and removed.
    pub(super) fn sizes(&self) -> (u64, u64) {
        let (added, removed) = sizes(&self.required);
        let (also_added, also_removed) = sizes(&self.cleanup);
        (added + also_added, removed + also_removed)
    }
}

fn sizes(operations: &[Operation]) -> (u64, u64) {
    operations.iter().fold((0, 0), |(added, removed), operation| match operation {
        Operation::AddElements(_, elements) => (added + elements.len() as u64, removed),
        Operation::DeleteElements(_, elements) => (added, removed + elements.len() as u64),
        Operation::AddTable | Operation::AddSet(_) | Operation::AddChain(_) | Operation::AddRule(..) => {
            (added + 1, removed)
        }
        Operation::DeleteTable
        | Operation::DeleteSet(_)
        | Operation::DeleteChain(_)
        | Operation::ClearSet(_)
        | Operation::ClearChain(_) => (added, removed + 1),
    })
}

/// A transaction, ready to be sent.
#[derive(Debug)]
pub(super) struct Transaction<'a> {
    operations: Vec<&'a Operation>,
    pub(super) batch: Batch,
    /// For each message of the batch: its operation, and (for elements) the first element of it.
    origins: Vec<(usize, usize)>,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(family: IpFamily, operations: impl IntoIterator<Item = &'a Operation>) -> Self {
        let batch = Batch::new(encode::protocol_family(family));
        let mut transaction = Self { operations: Vec::new(), batch, origins: Vec::new() };
        for operation in operations {
            transaction.push(transaction.operations.len(), operation);
            transaction.operations.push(operation);
        }
        transaction
    }

    fn push(&mut self, index: usize, operation: &Operation) {
        match operation {
            Operation::AddElements(set, elements) => {
                self.push_elements(index, (message::NEW_ELEMENTS, libc::NLM_F_CREATE), set, elements);
            }
            Operation::DeleteElements(set, elements) => {
                self.push_elements(index, (message::DELETE_ELEMENTS, 0), set, elements);
            }
            other => {
                self.origins.push((index, 0));
                push_single(&mut self.batch, index, other);
                if let Operation::AddSet(set) = other {
                    self.shrink(index, set);
                }
            }
        }
    }

    /// The kernel allots the table of a set that packets fill for the most keys it may have: 2 MiB each. Removing a key
    /// makes it notice that there are few.
    fn shrink(&mut self, index: usize, set: &SetDefinition) {
        if set.timeout.is_some() {
            let key = [Element::member(Key::new().address(unspecified(set.family)))];
            self.push_elements(index, (message::NEW_ELEMENTS, libc::NLM_F_CREATE), &set.name, &key);
            self.push_elements(index, (message::DELETE_ELEMENTS, 0), &set.name, &key);
        }
    }

    /// As many messages as it takes.
    fn push_elements(&mut self, index: usize, (kind, flags): (u16, i32), set: &str, elements: &[Element]) {
        let mut rest = elements;
        while !rest.is_empty() {
            self.origins.push((index, elements.len() - rest.len()));
            self.batch.push(kind, flags, |message| rest = push_list(message, set, rest));
        }
    }

    /// The number of the operation that the kernel refused, if it said so.
    pub(super) fn refused(&self, error: &BatchError) -> Option<usize> {
        self.origins.get(error.message?).map(|(operation, _)| *operation)
    }

    /// What a refusal means for the frontends.
    pub(super) fn explain(&self, family: IpFamily, error: BatchError) -> DataplaneError {
        let operation = self.refused(&error).and_then(|index| self.operations.get(index));
        let Some(operation) = operation else {
            return DataplaneError::Transaction {
                operation: format!("table {family} {}", encode::TABLE),
                source: error.source,
            };
        };
        let frontend = match operation {
            Operation::AddElements(set, elements) | Operation::DeleteElements(set, elements) => {
                static_set(set).and_then(|set| owner(set, family, self.element(elements, &error)?))
            }
            _ => None,
        };
        let operation = operation.describe();
        match frontend {
            Some(frontend) => DataplaneError::FrontendRefused { frontend, operation, source: error.source },
            None => DataplaneError::Transaction { operation, source: error.source },
        }
    }

    /// The element at which the kernel points.
    fn element<'b>(&self, elements: &'b [Element], error: &BatchError) -> Option<&'b Element> {
        const MESSAGE_AND_FAMILY_HEADER: usize = 20;
        let index = error.message?;
        let (_, first) = *self.origins.get(index)?;
        let bytes = self.batch.message(index)?;
        let attributes = bytes.get(MESSAGE_AND_FAMILY_HEADER..)?;
        let list = crate::kernel::netlink::find(attributes, number::LIST_ELEMENTS)?;
        let offset = error.offset?.checked_sub(list.as_ptr() as usize - bytes.as_ptr() as usize)?;
        let nth = Attributes::new(list)
            .take_while(|element| (element.payload.as_ptr() as usize - list.as_ptr() as usize) <= offset)
            .count();
        elements.get(first + nth)
    }
}

fn static_set(name: &str) -> Option<StaticSet> {
    StaticSet::all().into_iter().find(|set| set.name() == name)
}

/// One message of elements; gives back those that did not fit.
fn push_list<'b>(message: &mut Writer<'_>, set: &str, elements: &'b [Element]) -> &'b [Element] {
    encode::elements_of(message, set);
    let mut rest = elements;
    message.nested(number::LIST_ELEMENTS, |list| {
        let start = list.len();
        while let Some((element, others)) = rest.split_first().filter(|_| list.len() - start < LIST_LIMIT) {
            encode::element(list, element);
            rest = others;
        }
    });
    rest
}

fn push_single(batch: &mut Batch, index: usize, operation: &Operation) {
    const CREATE: i32 = libc::NLM_F_CREATE;
    match operation {
        Operation::AddTable => batch.push(message::NEW_TABLE, CREATE, encode::table),
        Operation::DeleteTable => batch.push(message::DELETE_TABLE, 0, encode::table_name),
        Operation::AddSet(set) => batch.push(message::NEW_SET, CREATE, |message| {
            encode::set(message, set);
            encode::set_identifier(message, u32::try_from(index + 1).unwrap_or(u32::MAX));
        }),
        Operation::DeleteSet(name) => {
            batch.push(message::DELETE_SET, 0, |message| encode::set_name(message, name));
        }
        Operation::ClearSet(name) => {
            batch.push(message::DELETE_ELEMENTS, 0, |message| encode::elements_of(message, name));
        }
        Operation::AddChain(chain) => {
            batch.push(message::NEW_CHAIN, CREATE, |message| encode::chain(message, chain));
        }
        Operation::DeleteChain(name) => {
            batch.push(message::DELETE_CHAIN, 0, |message| encode::chain_name(message, name));
        }
        Operation::ClearChain(name) => {
            batch.push(message::DELETE_RULE, 0, |message| encode::rules_of(message, name));
        }
        Operation::AddRule(chain, rule) => {
            let flags = CREATE | libc::NLM_F_APPEND;
            batch.push(message::NEW_RULE, flags, |message| encode::rule(message, chain, rule));
        }
        Operation::AddElements(..) | Operation::DeleteElements(..) => {}
    }
}

impl Operation {
    /// The chain and its rules.
    pub(super) fn add_chain(chain: Chain) -> impl Iterator<Item = Self> {
        let name = Arc::clone(&chain.name);
        let rules = chain.rules.clone();
        std::iter::once(Self::AddChain(chain))
            .chain(rules.into_iter().map(move |rule| Self::AddRule(Arc::clone(&name), rule)))
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::AddTable => "add the table".to_owned(),
            Self::DeleteTable => "delete the table".to_owned(),
            Self::AddSet(set) => format!("add set {}", set.name),
            Self::DeleteSet(name) => format!("delete set {name}"),
            Self::ClearSet(name) => format!("clear set {name}"),
            Self::AddChain(chain) => format!("add chain {}", chain.name),
            Self::DeleteChain(name) => format!("delete chain {name}"),
            Self::ClearChain(name) => format!("clear chain {name}"),
            Self::AddRule(chain, _) => format!("add a rule to chain {chain}"),
            Self::AddElements(set, elements) => format!("add {} elements to {set}", elements.len()),
            Self::DeleteElements(set, elements) => format!("delete {} elements from {set}", elements.len()),
        }
    }
}

#[cfg(test)]
mod tests;
