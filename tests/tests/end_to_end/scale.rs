//! Many services at once.

use serde_json::{Value, json};
use shunt_tests::Mode;
use shunt_tests::in_each_mode;
use shunt_tests::lab::{Outcome, Protocol};
use shunt_tests::stage::{CHANGE_PATIENCE, Endpoint, Slice, Stage, service};

use super::{answered_by, at, tcp};

in_each_mode!(three_hundred_services_come_at_once_and_half_of_them_go_at_once,);

const SERVICES: usize = 300;

fn address(number: usize) -> String {
    format!("10.96.{}.{}", 1 + number / 200, 1 + number % 200)
}

/// A Service and its slice; services share two pods in turn.
fn objects(stage: &Stage, number: usize) -> [Value; 2] {
    let name = format!("service-{number}");
    let spec = json!({"clusterIP": address(number), "ports": [{"port": 80, "targetPort": 8080}]});
    let node = stage.node(0).expect("a node");
    let endpoint = Endpoint::new(node.endpoint(number % 2).expect("a pod"), node.name());
    [service(&name, &spec), Slice::new(&name, 8080, [endpoint]).object()]
}

fn three_hundred_services_come_at_once_and_half_of_them_go_at_once(mode: Mode) {
    let mut stage = Stage::create(mode, 1).expect("a stage");
    (5..8).for_each(|last| stage.node_mut(0).expect("a node").add_pod(last).expect("a pod"));
    let all: Vec<_> = (0..SERVICES).flat_map(|number| objects(&stage, number)).collect();
    stage.apply(all).expect("applies");
    let node = stage.node(0).expect("a node");
    let pod = node.pod(2).expect("a pod");
    for number in 0..SERVICES {
        let to = format!("{}:80", address(number));
        stage.wait_for_answer(pod, &tcp(&to)).expect("the service works");
        let attempt = pod.ask(Protocol::Tcp, at(&to)).expect("asks");
        let endpoint = node.endpoint(number % 2).expect("a pod");
        assert_eq!(answered_by(&attempt.outcome), Some(endpoint), "{to}");
    }
    stage
        .delete_all((0..SERVICES).filter(|number| number % 2 == 1).flat_map(|number| {
            let name = format!("service-{number}");
            [("Service", name.clone()), ("EndpointSlice", format!("{name}-8080"))]
        }))
        .expect("deletes");
    let pod = stage.node(0).expect("a node").pod(2).expect("a pod");
    for number in (0..SERVICES).step_by(15) {
        let dial = tcp(&format!("{}:80", address(number))).patience(std::time::Duration::from_millis(300));
        let works = number % 2 == 0;
        stage
            .wait_until(pod, &dial, CHANGE_PATIENCE, |outcome| matches!(outcome, Outcome::Answer(_)) == works)
            .expect("the deleted ones are gone, and only those");
    }
}
