//! Objects with mistakes: named, and everything else is served.

use std::time::Duration;

use serde_json::{Value, json};
use shunt_tests::Mode;
use shunt_tests::agent::{CHANGE_PATIENCE, Scene, eventually, tcp};
use shunt_tests::in_each_mode;
use shunt_tests::lab::Outcome;

use super::{WEB, scene_with_web};

in_each_mode!(
    mistakes_in_a_service_are_named_with_their_fields_and_the_rest_works,
    objects_that_make_no_sense_at_all_are_named_and_left_out,
    of_two_services_with_one_external_address_the_older_wins_until_it_goes,
);

/// Waits for an Event about a Service.
fn event_on(scene: &Scene, service: &str, reason: &str) -> Value {
    eventually(&format!("{reason} on {service}"), CHANGE_PATIENCE, || {
        let events = scene.api.list("Event")?;
        Ok(events.into_iter().find(|event| {
            event["regarding"]["kind"] == "Service"
                && event["regarding"]["name"] == service
                && event["reason"] == reason
        }))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", scene.agent.log_tail()))
}

fn mistakes_in_a_service_are_named_with_their_fields_and_the_rest_works(mode: Mode) {
    let scene = scene_with_web(mode, 2);
    let spec = json!({
        "type": "LoadBalancer", "clusterIP": "10.96.0.20",
        "externalIPs": ["203.0.113.20", "203.0.113.300"],
        "loadBalancerSourceRanges": ["192.168.50.0/24", "192.168.50.0/99"],
        "ports": [{"name": "good", "port": 80, "targetPort": 8080, "nodePort": 30020},
                  {"name": "bad", "port": 700_000, "targetPort": 8080, "nodePort": 30021},
                  {"name": "odd", "protocol": "IPX", "port": 81, "targetPort": 8080, "nodePort": 30022}],
    });
    let mut flawed = shunt_tests::stage::service("flawed", &spec);
    flawed["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.21"}, {"ip": "nowhere"}]}});
    scene.api.put(flawed).expect("applies");
    let mut slice = scene.slice("flawed", &[0]).expect("a slice");
    slice["ports"][0]["name"] = json!("good");
    scene.api.put(slice).expect("applies");
    for field in [
        "spec.externalIPs[1]",
        "spec.loadBalancerSourceRanges[1]",
        "spec.ports[1].port",
        "spec.ports[2].protocol",
        "status.loadBalancer.ingress[1].ip",
    ] {
        scene.wait_for_log(&["default/flawed", field]).expect("the field is named");
    }
    for to in ["10.96.0.20:80", "203.0.113.20:80", "203.0.113.21:80", "192.168.50.11:30020"] {
        let answered = |outcome: &Outcome| matches!(outcome, Outcome::Answer(_));
        let patient = tcp(to).patience(Duration::from_secs(1));
        scene.wait_until(scene.client(), &patient, answered).expect("the rest of the service works");
    }
    scene.assert_works(WEB, 3).expect("others are untouched");
    let metrics = scene.metrics().expect("metrics");
    let flawed = metrics.count("shunt_object_problems", &[("resource", "services")]);
    assert!((flawed - 1.0).abs() < 0.1, "{flawed} services with problems");
}

fn objects_that_make_no_sense_at_all_are_named_and_left_out(mode: Mode) {
    let scene = scene_with_web(mode, 2);
    let nonsense = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "nonsense"},
                          "spec": {"clusterIP": "10.96.0.30", "clusterIPs": ["10.96.0.30"], "ports": "many"}});
    scene.api.put(nonsense).expect("applies");
    scene.wait_for_log(&["nonsense"]).expect("the object is named");
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "web-odd", "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.1.999"]}], "ports": [{"port": 8080, "protocol": "TCP", "name": ""}]});
    scene.api.put(slice).expect("applies");
    scene.wait_for_log(&["web-odd", "endpoints[0]"]).expect("the endpoint is named");
    scene.publish("web", "10.96.0.10", &[1]).expect("applies");
    scene.wait_for_pod(WEB, 1).expect("changes arrive as before");
    scene.assert_works(WEB, 5).expect("the good endpoint takes everything");
    // Repaired, it counts.
    scene.publish("nonsense", "10.96.0.30", &[0]).expect("applies");
    scene.wait_for_answer("10.96.0.30:80").expect("works");
}

fn of_two_services_with_one_external_address_the_older_wins_until_it_goes(mode: Mode) {
    let scene = scene_with_web(mode, 3);
    let spec = |cluster_ip: &str| json!({"clusterIP": cluster_ip, "externalIPs": ["203.0.113.5"], "ports": [{"port": 80, "targetPort": 8080}]});
    let mut older = shunt_tests::stage::service("older", &spec("10.96.0.21"));
    older["metadata"]["creationTimestamp"] = json!("2020-01-01T00:00:00Z");
    // The younger one is there first: age counts, not the order of arrival.
    scene.publish_spec("younger", &spec("10.96.0.22"), &[1]).expect("applies");
    scene.wait_for_pod("203.0.113.5:80", 1).expect("it has the address alone");
    scene.api.put(older).expect("applies");
    scene.api.put(scene.slice("older", &[0]).expect("a slice")).expect("applies");
    scene.wait_for_pod("203.0.113.5:80", 0).expect("the older one takes the address");
    scene.wait_for_pod("10.96.0.22:80", 1).expect("the rest of the younger one works");
    let event = event_on(&scene, "younger", "FrontendConflict");
    assert_eq!(event["type"], "Warning");
    let note = event["note"].as_str().expect("a note");
    assert!(note.contains("203.0.113.5:80") && note.contains("default/older"), "{note}");
    let problems = scene.status().expect("a status")["problems"].to_string();
    assert!(problems.contains("default/younger") && problems.contains("externalIPs"), "{problems}");
    scene.unpublish("older").expect("deletes");
    scene.wait_for_pod("203.0.113.5:80", 1).expect("the younger one takes over");
    assert_eq!(scene.status().expect("a status")["problems"], json!([]));
}
