//! Flags and configuration files.

use std::fs;
use std::time::Duration;

use serde_json::json;
use shunt_tests::Mode;
use shunt_tests::agent::{CHANGE_PATIENCE, Scene, eventually};

use super::{WEB, scene_with_web};

/// The ConfigMap of kubeadm as it is, but for the path of the kubeconfig.
const KUBEADM: &str = include_str!("../../../dataplane/src/config/tests/kubeadm.yaml");

#[test]
fn kubeadms_untouched_configuration_works() {
    let mut scene = Scene::create(Mode::Nftables, 2).expect("a scene");
    scene.publish("web", "10.96.0.10", &[0]).expect("applies");
    let kubeconfig = scene.agent.directory().join("kubeconfig.conf").display().to_string();
    let text = KUBEADM.replace("/var/lib/kube-proxy/kubeconfig.conf", &kubeconfig);
    assert!(text.contains(&kubeconfig) && text.contains("mode: \"\""), "not what kubeadm writes: {text}");
    let file = scene.agent.directory().join("kubeadm.conf");
    fs::write(&file, text).expect("writes");
    let arguments = vec!["--config".into(), file.into(), "--hostname-override=node-a".into()];
    scene.launch_with(arguments).expect("starts");
    scene.wait_for_answer(WEB).expect("works");
    assert_eq!(scene.metrics_page("/proxyMode").expect("answers").body, "nftables");
    scene.agent.stop().expect("ends");
}

#[test]
fn flags_alone_are_enough_and_those_without_meaning_are_warned_of() {
    let mut scene = Scene::create(Mode::Nftables, 2).expect("a scene");
    scene.publish("web", "10.96.0.10", &[0]).expect("applies");
    let kubeconfig = scene.agent.directory().join("kubeconfig.conf");
    let arguments = vec![
        format!("--kubeconfig={}", kubeconfig.display()).into(),
        format!("--master={}", scene.api.url()).into(),
        "--hostname-override".into(),
        "node-a".into(),
        "--proxy_mode=ipvs".into(),
        "--ipvs-scheduler=rr".into(),
        "--cluster-cidr=10.244.0.0/16".into(),
        "--conntrack-max-per-core=0".into(),
        "--conntrack-min=0".into(),
        "--metrics-bind-address=127.0.0.1:10249".into(),
        "-v=2".into(),
    ];
    scene.launch_with(arguments).expect("starts");
    scene.wait_for_answer(WEB).expect("works");
    scene.wait_for_log(&["WARN", "ipvs", "nftables"]).expect("the mode is warned of");
    scene.wait_for_log(&["WARN", "ipvs-scheduler"]).expect("the scheduler is warned of");
    let flags = scene.metrics_page("/flagz").expect("answers").body;
    assert!(flags.contains("ipvs-scheduler=rr") && flags.contains("cluster-cidr=10.244.0.0/16"), "{flags}");
}

/// Wrong command lines and files, with what must be said about them.
#[test]
fn what_is_wrong_is_named_and_the_exit_code_tells_it() {
    let scene = Scene::create(Mode::Nftables, 0).expect("a scene");
    let head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    let files = [
        ("unknown.conf", "mode: nftables\nclusterCidr: 10.0.0.0/8\n", &["unknown.conf:4", "clusterCidr"][..]),
        ("nested.conf", "conntrack:\n  maximum: 5\n", &["nested.conf:4", "conntrack", "maximum"]),
        ("mistyped.conf", "conntrack:\n  maxPerCore: many\n", &["mistyped.conf:4", "conntrack.maxPerCore"]),
        ("mode.conf", "mode: userspace\n", &["mode.conf", "mode", "must be auto"]),
        ("values.conf", "oomScoreAdj: 5000\nclusterCIDR: 10.0.0.0/33\n", &["oomScoreAdj", "clusterCIDR"]),
        ("ports.conf", "metricsBindAddress: 127.0.0.1:99999\n", &["metricsBindAddress"]),
    ];
    for (name, text, words) in files {
        let file = scene.agent.directory().join(name);
        fs::write(&file, format!("{head}{text}")).expect("writes");
        let ended = scene.shunt(&["--config", &file.display().to_string()]).expect("runs");
        assert_eq!(ended.code().expect("a code"), 1, "{name}: {}", ended.output);
        for word in words {
            assert!(ended.output.contains(word), "{name}: {word} is missing in {}", ended.output);
        }
    }
    let lines = [
        (&["--config=/nowhere/config.conf"][..], "/nowhere/config.conf"),
        (&["--proxy-mode=userspace"], "must be auto"),
        (&["--proxy-mode=warp"], "warp"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["positional"], "positional"),
        (&["--cluster-cidr=10.0.0.0/33"], "clusterCIDR"),
    ];
    for (arguments, words) in lines {
        let ended = scene.shunt(arguments).expect("runs");
        assert_ne!(ended.code().expect("a code"), 0, "{arguments:?}: {}", ended.output);
        assert!(ended.output.contains(words), "{arguments:?}: {words} is missing in {}", ended.output);
    }
}

#[test]
fn logs_can_be_json_and_one_sync_is_one_line() {
    let mut scene = Scene::create(Mode::Nftables, 2).expect("a scene");
    scene.agent.config["logging"] = json!({"format": "json", "verbosity": 0});
    scene.start_with_web().expect("the agent serves");
    scene.wait_for_log(&["programmed"]).expect("a sync");
    let syncs =
        |scene: &Scene| scene.agent.log().lines().filter(|line| line.contains("\"programmed\"")).count();
    let before = syncs(&scene);
    scene.publish("web", "10.96.0.10", &[1]).expect("applies");
    scene.wait_for_pod(WEB, 1).expect("changes");
    eventually("the sync is told", CHANGE_PATIENCE, || Ok((syncs(&scene) > before).then_some(())))
        .expect("is told");
    // The Node is written every few seconds in real clusters; that is no news.
    let node = scene.api.list("Node").expect("lists").remove(0);
    let known = syncs(&scene);
    for number in 0..5 {
        let mut beat = node.clone();
        beat["metadata"]["annotations"] = json!({"example.org/beat": number.to_string()});
        beat["metadata"].as_object_mut().expect("metadata").remove("resourceVersion");
        scene.api.put(beat).expect("applies");
    }
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(syncs(&scene), known, "{}", scene.agent.log_tail());
    for line in scene.agent.log().lines() {
        let parsed: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(parsed.is_object(), "{line}");
    }
}

#[test]
fn a_changed_configuration_file_ends_the_agent_and_services_stay() {
    let mut scene = scene_with_web(Mode::Nftables, 2);
    scene.agent.config["oomScoreAdj"] = json!(-998);
    scene.agent.write_config().expect("writes");
    let ended = scene.agent.wait_for_end().expect("ends");
    assert_ne!(ended.code().expect("a code"), 0);
    assert!(ended.output.contains("configuration file has changed"), "{}", ended.output);
    scene.assert_works(WEB, 3).expect("what is programmed stays");
    scene.start().expect("starts with the new file");
    assert!(scene.metrics_page("/configz").expect("answers").body.contains("\"oomScoreAdj\":-998"));

    // As the kubelet updates a ConfigMap: another file is renamed over it.
    let draft = scene.agent.directory().join("draft");
    fs::write(&draft, scene.agent.config.to_string()).expect("writes");
    fs::rename(&draft, scene.agent.config_file()).expect("renames");
    assert_ne!(scene.agent.wait_for_end().expect("ends").code().expect("a code"), 0);
}

#[test]
fn version_and_written_configuration() {
    let scene = Scene::create(Mode::Nftables, 0).expect("a scene");
    let version = scene.shunt(&["--version"]).expect("runs").success().expect("succeeds");
    assert_eq!(version.trim(), concat!("shunt v", env!("CARGO_PKG_VERSION")));
    let file = scene.agent.directory().join("written.yaml").display().to_string();
    let arguments = [
        "--write-config-to",
        &file,
        "--cluster-cidr=10.1.0.0/16",
        "--proxy-mode=nftables",
        "--masquerade-all",
    ];
    scene.shunt(&arguments).expect("runs").success().expect("succeeds");
    let written = fs::read_to_string(&file).expect("is written");
    for line in ["kind: KubeProxyConfiguration", "clusterCIDR: 10.1.0.0/16", "mode: nftables"] {
        assert!(written.contains(line), "{line} is missing in {written}");
    }
    assert!(scene.output("nft", &["list", "tables"]).expect("nft runs").is_empty(), "nothing was programmed");
    let again = scene.agent.directory().join("again.yaml").display().to_string();
    scene
        .shunt(&["--config", &file, "--write-config-to", &again])
        .expect("runs")
        .success()
        .expect("succeeds");
    assert_eq!(fs::read_to_string(&again).expect("is written"), written, "it can be read again");
    let unwritable = scene.shunt(&["--write-config-to=/nowhere/file"]).expect("runs");
    assert_eq!(unwritable.code().expect("a code"), 1);
    assert!(unwritable.output.contains("/nowhere/file"), "{}", unwritable.output);
}

#[test]
fn init_only_makes_settings_and_ends_without_programming_anything() {
    let mut scene = Scene::create(Mode::Nftables, 2).expect("a scene");
    scene.agent.config["conntrack"]["tcpCloseWaitTimeout"] = json!("33s");
    scene.agent.write_config().expect("writes");
    let file = scene.agent.config_file().display().to_string();
    // The kernel has these settings in a namespace once something there tracks connections.
    scene
        .nft("table ip tracker {\n chain c {\n type filter hook output priority 0\n ct state new accept\n }\n }")
        .expect("nft runs");
    scene.shunt(&["--config", &file, "--init-only"]).expect("runs").success().expect("succeeds");
    let setting = |scene: &Scene| {
        let path = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait";
        scene.output("cat", &[path]).expect("a setting").trim().to_owned()
    };
    assert_eq!(setting(&scene), "33");
    let tables = scene.output("nft", &["list", "tables"]).expect("nft runs");
    assert_eq!(tables.trim(), "table ip tracker");
    scene.start_with_web().expect("the agent works after it");
    eventually("the setting stays", CHANGE_PATIENCE, || Ok((setting(&scene) == "33").then_some(())))
        .expect("stays");
}

#[test]
fn the_agent_makes_its_settings_when_tracking_begins() {
    let mut scene = Scene::create(Mode::Nftables, 2).expect("a scene");
    scene.agent.config["conntrack"]["tcpEstablishedTimeout"] = json!("1h1m1s");
    scene.agent.config["conntrack"]["udpTimeout"] = json!("44s");
    // To make it lower than it is takes another capability.
    scene.agent.config["oomScoreAdj"] = json!(500);
    scene.start_with_web().expect("the agent serves");
    for (setting, value) in
        [("nf_conntrack_tcp_timeout_established", "3661"), ("nf_conntrack_udp_timeout", "44")]
    {
        let path = format!("/proc/sys/net/netfilter/{setting}");
        eventually(setting, CHANGE_PATIENCE, || {
            Ok((scene.output("cat", &[&path])?.trim() == value).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.agent.log_tail()));
    }
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", scene.agent.id().expect("runs")));
    assert_eq!(score.expect("a score").trim(), "500");
}

#[test]
fn a_port_that_is_taken_is_waited_for_or_fatal_as_configured() {
    let mut scene = Scene::create(Mode::Nftables, 2).expect("a scene");
    scene.publish("web", "10.96.0.10", &[0]).expect("applies");
    scene.node().host().listen(shunt_tests::lab::Protocol::Tcp, 10256).expect("listens");
    scene.launch().expect("starts");
    scene.wait_for_answer(WEB).expect("services do not need the health server");
    scene.wait_for_log(&["10256"]).expect("it is told");
    scene.agent.stop().expect("ends");
    scene.agent.config["bindAddressHardFail"] = json!(true);
    scene.launch().expect("starts");
    let ended = scene.agent.wait_for_end().expect("ends");
    assert_eq!(ended.code().expect("a code"), 1);
    assert!(ended.output.contains("10256"), "{}", ended.output);
    std::thread::sleep(Duration::from_millis(100));
    scene.assert_works(WEB, 2).expect("what is programmed stays");
}
