//! `shunt status`, `services` and `explain`, asking the running agent.

use serde_json::{Value, json};
use shunt_tests::Mode;
use shunt_tests::agent::Scene;
use shunt_tests::in_each_mode;

use super::{WEB, scene_with_web};

in_each_mode!(
    status_tells_what_is_programmed_and_how_the_watches_are,
    services_lists_frontends_with_pools_and_policies,
    explain_tells_frontend_policy_and_endpoints,
);

fn said(scene: &Scene, arguments: &[&str]) -> String {
    scene.shunt(arguments).expect("runs").success().expect("succeeds")
}

fn json_of(scene: &Scene, arguments: &[&str]) -> Value {
    let text = said(scene, &[arguments, &["-o", "json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The service that all subcommands show, besides the first one.
fn publish_shop(scene: &Scene) {
    let spec = json!({"type": "LoadBalancer", "clusterIP": "10.96.0.20", "externalIPs": ["203.0.113.9"],
        "externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP",
        "loadBalancerSourceRanges": ["192.168.50.0/24"],
        "ports": [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080}]});
    let mut shop = shunt_tests::stage::service("shop", &spec);
    shop["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.10"}]}});
    let mut slice = scene.slice("shop", &[0, 1]).expect("a slice");
    slice["ports"][0]["name"] = json!("http");
    slice["endpoints"][1]["conditions"]["ready"] = json!(false);
    slice["endpoints"][1]["conditions"]["serving"] = json!(false);
    scene.api.put(shop).expect("applies");
    scene.api.put(slice).expect("applies");
    scene.wait_for_answer("10.96.0.20:80").expect("works");
}

fn status_tells_what_is_programmed_and_how_the_watches_are(mode: Mode) {
    let scene = scene_with_web(mode, 3);
    let shown = json_of(&scene, &["status"]);
    assert_eq!(
        (&shown["node"], &shown["healthy"], &shown["eligible"]),
        (&json!("node-a"), &json!(true), &json!(true))
    );
    assert_eq!((&shown["services"], &shown["servicePorts"]["IPv4"]), (&json!(1), &json!(1)), "{shown}");
    assert_eq!(shown["endpoints"]["IPv4"], 1, "{shown}");
    let kind = if mode.is_ebpf() { "frontends" } else { "elements" };
    assert!(shown["programmed"][kind].as_u64().is_some_and(|count| count > 0), "{shown}");
    for kind in ["services", "endpointslices", "nodes", "servicecidrs"] {
        assert_eq!(shown["watches"][kind]["connected"], true, "{kind}: {shown}");
    }
    let text = said(&scene, &["status"]);
    for words in ["node node-a: healthy", "services 1", "watch services: watching", "last sync"] {
        assert!(text.contains(words), "{words} is missing in {text}");
    }
    let elsewhere = scene.shunt(&["status", "--metrics-address", "127.0.0.1:10300"]).expect("runs");
    assert_eq!(elsewhere.code().expect("a code"), 1);
    assert!(elsewhere.output.contains("127.0.0.1:10300"), "{}", elsewhere.output);
}

fn services_lists_frontends_with_pools_and_policies(mode: Mode) {
    let scene = scene_with_web(mode, 3);
    publish_shop(&scene);
    let shown = json_of(&scene, &["services"]);
    let frontends = shown["frontends"].as_array().expect("a list").clone();
    let find = |text: &str| {
        let found = frontends.iter().find(|frontend| frontend["frontend"] == text);
        found.unwrap_or_else(|| panic!("no {text} in {shown}")).clone()
    };
    let web = find("10.96.0.10:80/tcp");
    assert_eq!((&web["service"], &web["inside"]), (&json!("default/web"), &json!(["10.244.1.11:8080"])));
    let balanced = find("203.0.113.10:80/tcp");
    assert_eq!((&balanced["service"], &balanced["port"]), (&json!("default/shop"), &json!("http")));
    // A load balancer may come back to its own address.
    assert_eq!(balanced["sourceRanges"], json!(["192.168.50.0/24", "203.0.113.10/32"]));
    assert_eq!(balanced["affinitySeconds"], 10_800);
    find("203.0.113.9:80/tcp");
    let table = said(&scene, &["services"]);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("FRONTEND") && lines[0].ends_with("ENDPOINTS"), "{table}");
    assert!(
        lines.iter().any(|line| line.starts_with("10.96.0.10:80/tcp") && line.contains("default/web")),
        "{table}"
    );
    assert!(
        lines.iter().any(|line| line.contains("default/shop:http") && line.contains("10800s")),
        "{table}"
    );
    assert_eq!(lines.len(), frontends.len() + 1, "{table}");
}

fn explain_tells_frontend_policy_and_endpoints(mode: Mode) {
    let scene = scene_with_web(mode, 3);
    publish_shop(&scene);
    let text = said(&scene, &["explain", "10.244.1.13", "10.96.0.20:80/tcp"]);
    for words in ["default/shop", "10.244.1.11:8080", "10.244.1.12"] {
        assert!(text.contains(words), "{words} is missing in {text}");
    }
    let outside = said(&scene, &["explain", "198.51.100.1", "203.0.113.10:80/tcp"]);
    assert!(outside.to_lowercase().contains("source range"), "{outside}");
    let nothing = said(&scene, &["explain", "node", "10.96.0.77:80/tcp"]);
    assert!(!nothing.trim().is_empty() && !nothing.contains("default/"), "{nothing}");
    let structured = json_of(&scene, &["explain", "10.244.1.13", WEB_TCP]);
    assert!(structured["explanation"].is_object() && structured["text"].is_string(), "{structured}");

    for (arguments, words) in [
        (["explain", "10.244.1.13", "10.96.0.10:80"], "protocol"),
        (["explain", "somewhere", WEB_TCP], "somewhere"),
        (["explain", "10.244.1.13", "10.96.0.10/tcp"], "IP:PORT"),
    ] {
        let refused = scene.shunt(&arguments).expect("runs");
        assert_ne!(refused.code().expect("a code"), 0, "{arguments:?}");
        assert!(refused.output.contains(words), "{words} is missing in {}", refused.output);
    }
    scene.assert_works(WEB, 1).expect("questions change nothing");
}

const WEB_TCP: &str = "10.96.0.10:80/tcp";
