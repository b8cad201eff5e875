use super::build::*;
use crate::domain::{Event, Protocol, Service, ServicePort, TrafficPolicy};
use crate::plan::explain::{
    Client, DropReason, Explanation, Question, RejectReason, Scope, Source, SourceHandling, Standing,
    UntouchedReason, Verdict, explain,
};

fn world(service: Service, endpoints: Vec<crate::domain::Endpoint>) -> World {
    let mut world = World::new();
    world.apply(Event::ServiceCidrs(nets(&["172.30.0.0/16"])));
    world.put(&[service], &[slice("web-1", "web", endpoints)]);
    world
}

fn balanced() -> Service {
    Service {
        load_balancer_ips: vec![ip("192.0.2.2")],
        external_policy: TrafficPolicy::Local,
        ports: vec![ServicePort { node_port: Some(30080), ..port("", Protocol::Tcp, 80) }],
        ..service("web", "172.30.0.1")
    }
}

fn ask(world: &World, from: &str, client: Client, to: &str) -> Explanation {
    let question = Question { from: ip(from), client, to: to.parse().unwrap(), protocol: Protocol::Tcp };
    let sources = SourceHandling { masquerade_all: false, pods_told_apart: true };
    explain(&world.planner, &world.cluster, sources, &question)
}

fn standings(answer: &Explanation) -> Vec<Standing> {
    answer.endpoints.iter().map(|endpoint| endpoint.standing.clone()).collect()
}

#[test]
fn every_endpoint_that_is_not_chosen_has_its_reason() {
    let list = vec![
        hinted(ready("10.0.0.1"), &["zone-a"], &[]),
        hinted(ready("10.0.0.2"), &["zone-b"], &[]),
        unready(ready("10.0.0.3")),
        terminating(ready("10.0.0.4"), true),
        terminating(ready("10.0.0.5"), false),
        terminating(ready("10.0.0.1"), true),
    ];
    let answer = ask(&world(balanced(), list), "10.1.0.1", Client::Pod, "172.30.0.1:80");
    assert_eq!(answer.verdict, Verdict::Forward(Source::Kept));
    let expected = [
        Standing::Eligible,
        Standing::Duplicate,
        Standing::HintedForZones(vec!["zone-b".into()]),
        Standing::NotReady,
        Standing::TerminatingWhileOthersAreReady,
        Standing::TerminatingNotServing,
    ];
    assert_eq!(standings(&answer), expected);
}

#[test]
fn node_hints_are_named() {
    let list = vec![hinted(ready("10.0.0.1"), &[], &[NODE]), hinted(ready("10.0.0.2"), &[], &["node-b"])];
    let answer = ask(&world(balanced(), list), "10.1.0.1", Client::Pod, "172.30.0.1:80");
    assert_eq!(standings(&answer), [Standing::Eligible, Standing::HintedForNodes(vec!["node-b".into()])]);
}

#[test]
fn external_policy_local_depends_on_who_asks() {
    let world = world(balanced(), vec![ready("10.0.0.1")]);
    let vip = "192.0.2.2:80";
    let outside = ask(&world, "203.0.113.1", Client::Outside, vip);
    assert_eq!(outside.verdict, Verdict::Drop(DropReason::NoLocalEndpoints));
    assert_eq!(standings(&outside), [Standing::OnAnotherNode]);
    assert_eq!(outside.frontend.unwrap().scope, Scope::Local);
    assert_eq!(ask(&world, "10.1.0.1", Client::Pod, vip).verdict, Verdict::Forward(Source::Kept));
    assert_eq!(ask(&world, "192.168.0.2", Client::Node, vip).verdict, Verdict::Forward(Source::FromNode));
}

#[test]
fn the_last_resort_is_told() {
    let world = world(balanced(), vec![terminating(ready("10.0.0.1"), true)]);
    let answer = ask(&world, "10.1.0.1", Client::Pod, "172.30.0.1:80");
    assert_eq!(standings(&answer), [Standing::EligibleWhileTerminating]);
}

#[test]
fn what_is_not_a_frontend_is_told_apart() {
    let mut world = world(balanced(), vec![]);
    let verdict = |world: &World, to: &str| ask(world, "10.1.0.1", Client::Pod, to).verdict;
    assert_eq!(verdict(&world, "172.30.0.1:80"), Verdict::Reject(RejectReason::NoEndpoints));
    assert_eq!(verdict(&world, "172.30.0.1:81"), Verdict::Reject(RejectReason::NoSuchPort));
    assert_eq!(verdict(&world, "172.30.9.9:80"), Verdict::Drop(DropReason::UnallocatedClusterIp));
    assert_eq!(verdict(&world, "192.168.0.2:30080"), Verdict::Reject(RejectReason::NoEndpoints));
    assert_eq!(verdict(&world, "192.168.7.7:30080"), Verdict::Untouched(UntouchedReason::NodePortElsewhere));
    assert_eq!(verdict(&world, "192.0.2.2:81"), Verdict::Untouched(UntouchedReason::NoSuchFrontend));
    world.planner.skip(&frontend("192.0.2.2:80/tcp"));
    assert_eq!(verdict(&world, "192.0.2.2:80"), Verdict::Untouched(UntouchedReason::RefusedByKernel));
}

#[test]
fn source_ranges_are_named() {
    let service = Service { source_ranges: nets(&["203.0.113.0/24"]), ..balanced() };
    let world = world(service, vec![local("10.0.0.1")]);
    let answer = ask(&world, "198.51.100.1", Client::Outside, "192.0.2.2:80");
    assert_eq!(answer.verdict, Verdict::Drop(DropReason::SourceRanges));
    assert_eq!(answer.frontend.unwrap().source_ranges.unwrap(), ["203.0.113.0/24"]);
}

#[test]
fn slices_without_the_port_are_named() {
    let mut world = world(balanced(), vec![ready("10.0.0.1")]);
    let mut other = slice("web-2", "web", vec![ready("10.0.0.2")]);
    other.ports[0].name = "https".into();
    world.put(&[], &[other]);
    let answer = ask(&world, "10.1.0.1", Client::Pod, "172.30.0.1:80");
    assert_eq!(answer.slices_without_port, ["ns/web-2"]);
    assert_eq!(answer.endpoints.len(), 1);
}

#[test]
fn the_text_says_it_all() {
    let list = vec![local("10.0.0.1"), unready(ready("10.0.0.2"))];
    let world = world(Service { affinity_seconds: Some(60), ..balanced() }, list);
    let answer = ask(&world, "10.0.0.1", Client::Pod, "192.0.2.2:80");
    let expected = "\
10.0.0.1 (a pod of this node) -> 192.0.2.2:80/tcp
  frontend   192.0.2.2:80/tcp, load balancer IP of ns/web/tcp
  policy     external Local, which does not bind this node and its pods: any endpoint
  affinity   by client address, for 60 s
  verdict    goes to one of the eligible endpoints; it sees the client's address
  endpoints
    + 10.0.0.1:8080  node-a (this node): eligible; it is the client itself, and sees a node address as source
    - 10.0.0.2:8080  unknown node: not ready
";
    assert_eq!(answer.to_string(), expected);
}

#[test]
fn the_answer_can_be_read_by_programs() {
    let answer = ask(&world(balanced(), vec![ready("10.0.0.1")]), "10.1.0.1", Client::Pod, "172.30.0.1:80");
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!(json["verdict"], serde_json::json!({"action": "forward", "why": "kept"}));
    assert_eq!(json["frontend"]["servicePort"], "ns/web/tcp");
    assert_eq!(json["endpoints"][0]["standing"], "eligible");
}
