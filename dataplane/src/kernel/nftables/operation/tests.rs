use std::io;

use super::*;
use crate::domain::Protocol;
use crate::kernel::nftables::element::Key;
use crate::plan::{Frontend, FrontendAddress};

fn element(n: u16) -> Element {
    let key = Key::new().address("172.30.0.1".parse().unwrap()).port(n).slot(0);
    Element::endpoint(key, "10.0.0.1:80".parse().unwrap())
}

fn many() -> Operation {
    Operation::AddElements("tcp-endpoints".into(), (0..5000).map(element).collect())
}

/// Where the element with that number starts in its message: the message's number, and the offset.
fn position(transaction: &Transaction<'_>, nth: usize) -> (usize, usize) {
    let index = transaction.origins.iter().rposition(|(_, first)| *first <= nth).unwrap();
    let bytes = transaction.batch.message(index).unwrap();
    let list = crate::kernel::netlink::find(&bytes[20..], number::LIST_ELEMENTS).unwrap();
    let element = Attributes::new(list).nth(nth - transaction.origins[index].1).unwrap();
    (index, element.payload.as_ptr() as usize - 4 - bytes.as_ptr() as usize)
}

#[test]
fn long_lists_of_elements_become_messages_that_fit() {
    let operations = [many()];
    let transaction = Transaction::new(IpFamily::V4, &operations);
    assert!(transaction.batch.len() > 3);
    let total: usize = (0..transaction.batch.len())
        .map(|index| {
            let bytes = transaction.batch.message(index).unwrap();
            assert!(bytes.len() < 1 << 16, "{}", bytes.len());
            Attributes::new(crate::kernel::netlink::find(&bytes[20..], number::LIST_ELEMENTS).unwrap())
                .count()
        })
        .sum();
    assert_eq!(total, 5000);
}

#[test]
fn a_refused_element_is_found_by_its_offset_and_names_its_frontend() {
    let operations = [Operation::AddTable, many()];
    let transaction = Transaction::new(IpFamily::V4, &operations);
    for nth in [0, 1, 999, 4321, 4999] {
        let (message, offset) = position(&transaction, nth);
        let error = BatchError {
            message: Some(message),
            offset: Some(offset),
            source: io::Error::from_raw_os_error(libc::EEXIST),
        };
        let DataplaneError::FrontendRefused { frontend, .. } = transaction.explain(IpFamily::V4, error)
        else {
            panic!("not blamed on a frontend: {nth}");
        };
        let address = FrontendAddress::Ip("172.30.0.1".parse().unwrap());
        let port = u16::try_from(nth).unwrap();
        assert_eq!(frontend, Frontend { address, port, protocol: Protocol::Tcp });
    }
}

#[test]
fn a_refusal_that_belongs_to_no_frontend_fails_the_transaction() {
    let operations = [Operation::AddTable, Operation::DeleteChain("mine".into())];
    let transaction = Transaction::new(IpFamily::V6, &operations);
    let error =
        |message| BatchError { message, offset: None, source: io::Error::from_raw_os_error(libc::EBUSY) };
    assert_eq!(transaction.refused(&error(Some(1))), Some(1));
    let text = transaction.explain(IpFamily::V6, error(Some(1))).to_string();
    assert_eq!(text, "transaction failed: delete chain mine");
    let text = transaction.explain(IpFamily::V6, error(None)).to_string();
    assert_eq!(text, "transaction failed: table IPv6 shunt");
}

#[test]
fn sets_that_packets_fill_are_made_to_shrink() {
    let pool: crate::plan::Pool =
        Arc::new([crate::plan::Backend { address: "10.0.0.1".parse().unwrap(), port: 80, local: false }]);
    let owner = crate::domain::ServicePortName {
        service: crate::domain::ServiceName::new("a", "b"),
        port: "c".into(),
        protocol: Protocol::Tcp,
    };
    let sticky = crate::kernel::nftables::sticky::StickyPool::new(&Arc::new(owner), 60, &pool);
    let operations = [Operation::AddSet(sticky.endpoints().next().unwrap().set(IpFamily::V4))];
    let transaction = Transaction::new(IpFamily::V4, &operations);
    assert_eq!(transaction.batch.len(), 3);
}
