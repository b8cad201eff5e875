//! Which dataplane runs, what of it does not work here, and who is told. The mode is each test's own.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use shunt_tests::Mode;
use shunt_tests::agent::{CHANGE_PATIENCE, Scene, eventually};

use crate::{WEB, open_connection, still_works};

/// A node whose agent is to run in `mode`, with these of our own settings.
fn scene_of(mode: &str, own: &Value) -> Scene {
    let mut scene = Scene::create(Mode::Nftables, 2).expect("a scene");
    scene.agent.config["mode"] = json!(mode);
    let mut settings = json!({
        "apiVersion": "shunt.dev/v1alpha1", "kind": "ShuntConfiguration", "cgroupRoot": cgroup(&scene),
    });
    for (key, value) in own.as_object().expect("settings") {
        settings[key] = value.clone();
    }
    scene.agent.own_config = Some(settings);
    scene
}

fn cgroup(scene: &Scene) -> PathBuf {
    scene.node().surroundings().cgroup().expect("cgroup v2").path().to_owned()
}

fn mode(scene: &Scene) -> Value {
    scene.status().expect("a status")["mode"].take()
}

/// What the agent says of what does not work.
fn degraded(scene: &Scene) -> Vec<String> {
    let mode = mode(scene);
    let sentences = mode["degraded"].as_array().expect("a list").iter();
    sentences.map(|sentence| sentence.as_str().expect("a sentence").to_owned()).collect()
}

fn proxy_mode(scene: &Scene) -> String {
    scene.metrics_page("/proxyMode").expect("a page").body
}

/// Starts the agent with a service that works, and waits until this dataplane runs. On a busy machine a debug build takes
/// its time to ask the kernel for everything.
fn serve(scene: &mut Scene, running: &str) {
    scene.publish("web", "10.96.0.10", &[0]).expect("applies");
    scene.launch().expect("starts");
    eventually("the mode is chosen", Duration::from_mins(1), || {
        scene.agent.check()?;
        let chosen = scene.metrics_page("/proxyMode").is_ok_and(|page| page.body == running);
        let synced = chosen && scene.status().is_ok_and(|status| status["lastSyncSeconds"].is_number());
        Ok(synced.then_some(()))
    })
    .expect("it is");
    scene.wait_for_answer(WEB).expect("works");
}

/// Waits for an Event on the node with these words.
fn wait_for_event(scene: &Scene, words: &str) {
    eventually(words, CHANGE_PATIENCE, || {
        let events = scene.api.list("Event")?;
        let is_it = |event: &Value| {
            event["reason"] == "DataplaneDegraded"
                && event["note"].as_str().is_some_and(|note| note.contains(words))
        };
        Ok(events.iter().any(is_it).then_some(()))
    })
    .expect("an event");
}

#[test]
fn auto_is_ebpf_on_this_kernel_and_says_why() {
    let mut scene = scene_of("auto", &json!({}));
    serve(&mut scene, "ebpf");
    let mode = mode(&scene);
    assert_eq!((&mode["configured"], &mode["running"]), (&json!("auto"), &json!("ebpf")), "{mode}");
    assert_eq!((proxy_mode(&scene).as_str(), degraded(&scene)), ("ebpf", Vec::new()));
    let metrics = scene.metrics().expect("metrics");
    let labels = [("configured", "auto"), ("running", "ebpf")];
    assert_eq!(metrics.sum("shunt_mode", &labels), Some(1.0));
    assert_eq!(metrics.sum("shunt_degraded_features", &[]), Some(0.0));
    let shown = scene.shunt(&["status"]).expect("runs").success().expect("answers");
    assert!(shown.contains("mode ebpf (configured: auto): this kernel has all"), "{shown}");
    eventually("the kernel is described", CHANGE_PATIENCE, || {
        let shown = scene.shunt(&["status"])?.success()?;
        Ok(shown.contains("kernel: socket-lb: supported").then_some(()))
    })
    .expect("it is");
}

#[test]
fn auto_is_nftables_where_something_is_missing_and_names_it() {
    let mut scene = scene_of("auto", &json!({"bpffsRoot": "/proc"}));
    serve(&mut scene, "nftables");
    let mode = mode(&scene);
    assert_eq!(mode["running"], "nftables", "{mode}");
    assert!(
        mode["reason"].as_str().is_some_and(|why| why.contains("BPF file system (none is mounted at /proc)")),
        "{mode}"
    );
    assert_eq!(proxy_mode(&scene), "nftables");
    assert!(scene.ruleset().expect("rules").contains("table ip shunt"));
    wait_for_event(&scene, "BPF file system");
}

#[test]
fn without_a_cgroup_mode_ebpf_translates_packets_and_says_so() {
    let mut scene = scene_of("ebpf", &json!({"cgroupRoot": "/proc"}));
    serve(&mut scene, "ebpf");
    scene.assert_works(WEB, 5).expect("works");
    let said = degraded(&scene);
    assert!(said[0].contains("packets are translated one by one") && said[0].contains("/proc"), "{said:?}");
    assert_eq!(said.len(), 2, "that, and what goes with it: {said:?}");
    assert_eq!(scene.metrics().expect("metrics").sum("shunt_degraded_features", &[]), Some(2.0));
    wait_for_event(&scene, "socket load balancing is off");
}

#[test]
fn connections_live_on_when_auto_takes_over_from_nftables_and_back() {
    let mut scene = scene_of("nftables", &json!({}));
    serve(&mut scene, "nftables");
    let client = open_connection(&scene, WEB);
    for (mode, running) in [("auto", "ebpf"), ("nftables", "nftables"), ("auto", "ebpf")] {
        scene.agent.stop().expect("ends");
        scene.agent.config["mode"] = json!(mode);
        serve(&mut scene, running);
        scene.assert_works(WEB, 3).expect("new connections work");
    }
    still_works(&scene, client);
}

/// What a process of the node in a cgroup is really connected to.
fn peer_of_process_in(scene: &Scene, cgroup: &str) -> String {
    let connect =
        "exec 3<>/dev/tcp/10.96.0.10/80; ss -tnH state established | grep -v 127.0.0.1 | awk '{print $4}'";
    let order = format!("echo $$ > {cgroup}/cgroup.procs && exec bash -c \"$0\"");
    scene.output("bash", &["-c", &order, connect]).expect("connects")
}

#[test]
fn a_pod_opts_out_of_socket_load_balancing_by_annotation() {
    let mut scene = scene_of("ebpf", &json!({}));
    let root = cgroup(&scene);
    let [pod, other] = ["pod11-22", "pod33-44"].map(|name| root.join("kubepods/burstable").join(name));
    for folder in
        ["kubepods", "kubepods/burstable", "kubepods/burstable/pod11-22", "kubepods/burstable/pod33-44"]
    {
        let folder = root.join(folder);
        fs::create_dir(&folder).expect("a cgroup");
        // As the node's own, in which threads of this process are.
        fs::write(folder.join("cgroup.type"), "threaded").expect("a threaded cgroup");
    }
    let object = |socket_lb: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
                   "name": "web-0", "namespace": "default", "uid": "11-22",
                   "annotations": {"shunt.dev/socket-lb": socket_lb}},
               "spec": {"nodeName": "node-a", "containers": [{"name": "c", "image": "i"}]}})
    };
    scene.api.put(object("disabled")).expect("applies");
    let [pod, other] = [pod, other].map(|path| path.display().to_string());
    // What the node sends to a cluster IP needs a way that it seems to take.
    scene.node().host().ip(&["route add 10.96.0.0/16 via 192.168.50.100"]).expect("a route");
    serve(&mut scene, "ebpf");
    let peers = |wanted: &str| {
        eventually(&format!("the pod is connected to {wanted}"), CHANGE_PATIENCE, || {
            Ok(peer_of_process_in(&scene, &pod).contains(wanted).then_some(()))
        })
        .expect("it is");
    };
    peers("10.96.0.10:80");
    assert!(peer_of_process_in(&scene, &other).contains("10.244.1.11:8080"), "others are balanced");
    scene.api.put(object("enabled")).expect("applies");
    peers("10.244.1.11:8080");
    let watches = &scene.status().expect("a status")["watches"];
    assert_eq!(watches["pods"]["connected"], true, "{watches}");
    scene.agent.stop().expect("ends");
    for folder in [&pod, &other] {
        eventually("the cgroup is empty", CHANGE_PATIENCE, || Ok(fs::remove_dir(folder).ok()))
            .expect("it is");
    }
    for folder in ["kubepods/burstable", "kubepods"] {
        fs::remove_dir(root.join(folder)).expect("an empty cgroup");
    }
}
