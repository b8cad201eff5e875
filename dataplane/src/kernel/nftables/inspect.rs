//! What the tables hold for a destination, read from the kernel and not from the model.

use std::io;
use std::net::IpAddr;

use super::element::{Element, Key, Value};
use super::encode;
use super::expression::Verdict;
use super::read::Reader;
use super::set::{By, Scope, StaticSet};
use crate::kernel::inspection::Inspected;
use crate::kernel::netlink::Writer;
use crate::plan::explain::Question;

/// How many endpoints of a pool are told.
const SHOWN: u32 = 16;

/// Notes what the first packet of this question meets, in the order in which the rules look.
pub(super) fn table(
    reader: &mut Reader<'_>,
    question: &Question,
    inspected: &mut Inspected,
) -> io::Result<()> {
    let to = question.to;
    let address = Key::new().address(to.ip());
    if look(reader, (By::Address, address), question, inspected)? {
        return Ok(());
    }
    if reader.element(&StaticSet::NodePortIps.name(), address)?.is_some() {
        inspected.note(StaticSet::NodePortIps.name(), "accepts node ports");
        if look(reader, (By::NodePort, Key::new()), question, inspected)? {
            return Ok(());
        }
    }
    let cluster_ip = reader.element(&StaticSet::ClusterIps.name(), address)?.is_some();
    inspected.note(
        StaticSet::ClusterIps.name(),
        if cluster_ip { "a cluster IP without this port: rejected" } else { "not a cluster IP" },
    );
    Ok(())
}

/// Whether there is something for the destination.
fn look(
    reader: &mut Reader<'_>,
    (by, start): (By, Key),
    question: &Question,
    inspected: &mut Inspected,
) -> io::Result<bool> {
    let (services, without) = match by {
        By::Address => (StaticSet::ServiceIps, StaticSet::NoEndpointServices),
        By::NodePort => (StaticSet::ServiceNodePorts, StaticSet::NoEndpointNodePorts),
    };
    let port = question.to.port();
    let key = start.protocol(question.protocol).port(port);
    let mut found = false;
    for set in [without, services] {
        if let Some(element) = reader.element(&set.name(), key)? {
            inspected.note(set.name(), describe(&element));
            found = true;
        }
    }
    for scope in [Scope::Inside, Scope::Outside] {
        let map = StaticSet::Endpoints(question.protocol, by, scope);
        let endpoints = endpoints(reader, &map.name(), start.port(port))?;
        if !endpoints.is_empty() {
            inspected.note(map.name(), endpoints.join(", "));
        }
    }
    Ok(found)
}

fn endpoints(reader: &mut Reader<'_>, map: &str, start: Key) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for slot in 0..=SHOWN {
        let Some(element) = reader.element(map, start.slot(slot))? else { break };
        found.push(if slot == SHOWN { "and more".to_owned() } else { describe(&element) });
    }
    Ok(found)
}

fn describe(element: &Element) -> String {
    match &element.value {
        Value::Verdict(Verdict::Goto(chain) | Verdict::Jump(chain)) => format!("chain {chain}"),
        Value::Verdict(Verdict::Drop) => "drop".to_owned(),
        Value::Verdict(verdict) => format!("{verdict:?}"),
        Value::Endpoint(bytes) => endpoint(bytes.as_slice()),
        Value::None => "member".to_owned(),
        Value::Foreign => "something that is not ours".to_owned(),
    }
}

/// Address and port, each padded to four bytes.
fn endpoint(bytes: &[u8]) -> String {
    let Some((address, [high, low, ..])) = bytes.split_last_chunk::<4>() else { return "?".to_owned() };
    let address: Option<IpAddr> = <[u8; 4]>::try_from(address)
        .map(IpAddr::from)
        .ok()
        .or_else(|| <[u8; 16]>::try_from(address).map(IpAddr::from).ok());
    let port = u16::from_be_bytes([*high, *low]);
    address.map_or_else(|| "?".to_owned(), |address| std::net::SocketAddr::new(address, port).to_string())
}

impl Reader<'_> {
    /// One element of a set or map, by its key.
    fn element(&mut self, set: &str, key: Key) -> io::Result<Option<Element>> {
        let wanted = Element::member(key);
        let request = |message: &mut Writer<'_>| {
            encode::elements_of(message, set);
            message.nested(encode::number::LIST_ELEMENTS, |list| encode::element(list, &wanted));
        };
        match self.one_element(request) {
            Ok(found) => Ok(found.into_iter().next()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::element::Bytes;
    use super::*;

    #[test]
    fn endpoints_are_told_in_both_families() {
        for text in ["10.244.1.5:8080", "[fd00::5]:8080"] {
            let socket: std::net::SocketAddr = text.parse().unwrap();
            let element = Element::endpoint(Key::new(), socket);
            assert_eq!(describe(&element), text);
        }
        assert_eq!(describe(&Element::member(Bytes::new())), "member");
    }

    #[test]
    fn a_value_of_another_length_is_not_an_address() {
        assert_eq!(endpoint(&[1, 2, 3]), "?");
    }
}
