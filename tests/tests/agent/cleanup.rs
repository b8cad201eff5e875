//! Taking over from kube-proxy, and taking everything away.

use shunt_tests::Mode;
use shunt_tests::agent::{CHANGE_PATIENCE, Scene, eventually};
use shunt_tests::in_each_mode;

use super::{WEB, open_connection, still_works};

in_each_mode!(
    taking_over_removes_kube_proxys_rules_and_keeps_its_connections,
    nothing_is_taken_over_before_the_own_rules_are_in_place,
    cleanup_removes_shunts_and_kube_proxys_rules_and_nothing_else,
    cleanup_of_its_own_leaves_the_node_to_kube_proxys_rules,
);

/// What kube-proxy's nftables mode leaves: it leads the service `web` to the first pod.
const KUBE_PROXY_TABLE: &str = "table ip kube-proxy {
    chain nat-prerouting { type nat hook prerouting priority dstnat; policy accept;
        ip daddr 10.96.0.10 tcp dport 80 dnat to 10.244.1.11:8080
    }
}
table ip6 kube-proxy {
    chain services {
    }
}";

/// What belongs to others: it must be there, word by word, whatever happens.
const OTHERS_TABLES: &str = "table inet firewall {
    set allowed {
        type ipv4_addr
        elements = { 192.0.2.1 }
    }
    chain input {
        type filter hook input priority filter; policy accept;
        ip saddr @allowed drop
    }
}
table ip shunt-of-somebody-else {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip daddr 192.0.2.7 masquerade
    }
}";

const IPTABLES: &str = "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-ABCDEFGHIJKLMNOP - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n\
    :CNI-HOSTPORT-DNAT - [0:0]\n-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
    -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n\
    -A KUBE-SERVICES -d 10.96.0.99/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-ABCDEFGHIJKLMNOP\n\
    -A KUBE-SVC-ABCDEFGHIJKLMNOP -j KUBE-MARK-MASQ\nCOMMIT\n*filter\n:KUBE-FORWARD - [0:0]\n\
    :KUBE-FIREWALL - [0:0]\n-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n\
    -A FORWARD -j KUBE-FIREWALL\n-A INPUT -s 192.0.2.9/32 -j DROP\nCOMMIT\n";

/// Loads what kube-proxy and others would have left.
fn leave_rules(scene: &Scene) {
    scene.nft(KUBE_PROXY_TABLE).expect("rules");
    scene.nft(OTHERS_TABLES).expect("rules");
    let file = scene.agent.directory().join("rules");
    std::fs::write(&file, IPTABLES).expect("writes");
    let command = format!("iptables-restore < {}", file.display());
    scene.output("sh", &["-c", &command]).expect("iptables rules");
}

fn tables(scene: &Scene) -> Vec<String> {
    let output = scene.output("nft", &["list", "tables"]).expect("nft runs");
    output.lines().map(str::to_owned).collect()
}

fn has_kube_proxys(scene: &Scene) -> bool {
    let chains = scene.output("iptables-save", &[]).expect("iptables runs");
    tables(scene).iter().any(|table| table.ends_with("kube-proxy"))
        || ["KUBE-SERVICES", "KUBE-SVC", "KUBE-MARK-MASQ", "KUBE-FORWARD"]
            .iter()
            .any(|name| chains.contains(name))
}

fn assert_others_are_untouched(scene: &Scene, before: &[String]) {
    assert_eq!(others(scene), before);
    let chains = scene.output("iptables-save", &[]).expect("iptables runs");
    for rule in [
        "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
        "-A FORWARD -j KUBE-FIREWALL",
        "-A INPUT -s 192.0.2.9/32 -j DROP",
    ] {
        assert!(chains.contains(rule), "{rule} is missing in {chains}");
    }
}

fn others(scene: &Scene) -> Vec<String> {
    ["inet firewall", "ip shunt-of-somebody-else"]
        .map(|table| {
            let words: Vec<_> = ["list", "table"].into_iter().chain(table.split(' ')).collect();
            scene.output("nft", &words).expect("the table is there")
        })
        .into()
}

fn taking_over_removes_kube_proxys_rules_and_keeps_its_connections(mode: Mode) {
    let mut scene = Scene::create(mode, 3).expect("a scene");
    leave_rules(&scene);
    let before = others(&scene);
    scene.publish("web", "10.96.0.10", &[0, 1]).expect("applies");
    scene.wait_for_pod(WEB, 0).expect("kube-proxy's rules work");
    let connection = open_connection(&scene, WEB);
    scene.start().expect("starts");
    scene.wait_for_pod(WEB, 1).expect("our rules lead to the second endpoint, too");
    eventually("kube-proxy's rules go", CHANGE_PATIENCE, || Ok((!has_kube_proxys(&scene)).then_some(())))
        .unwrap_or_else(|error| panic!("{error}\n{}", scene.agent.log_tail()));
    still_works(&scene, connection);
    scene.assert_works(WEB, 10).expect("works");
    assert_others_are_untouched(&scene, &before);
    assert!(scene.agent.log().contains("kube-proxy left"), "{}", scene.agent.log_tail());
}

/// An agent that cannot read its objects must not take over: the node would be without services.
fn nothing_is_taken_over_before_the_own_rules_are_in_place(mode: Mode) {
    let mut scene = Scene::create(mode, 2).expect("a scene");
    leave_rules(&scene);
    scene.publish("web", "10.96.0.10", &[0]).expect("applies");
    scene.api.faults(|faults| faults.freeze(true)).expect("our own server");
    scene.start().expect("starts");
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert!(has_kube_proxys(&scene), "kube-proxy's rules are all that there is");
    scene.assert_works(WEB, 3).expect("services go on");
    scene.api.faults(|faults| faults.freeze(false)).expect("our own server");
    eventually("kube-proxy's rules go", CHANGE_PATIENCE, || Ok((!has_kube_proxys(&scene)).then_some(())))
        .expect("then they go");
    scene.assert_works(WEB, 3).expect("services go on");
}

/// Tables of the nftables dataplane, and of the masquerade rule.
fn ours(scene: &Scene) -> usize {
    let is_ours = |table: &String| table.ends_with(" shunt") || table.ends_with(" shunt-ebpf");
    tables(scene).iter().filter(|table| is_ours(table)).count()
}

fn cleanup_removes_shunts_and_kube_proxys_rules_and_nothing_else(mode: Mode) {
    for arguments in [&["cleanup"][..], &["--cleanup"], &["--cleanup=true", "--config", "CONFIG"]] {
        let mut scene = Scene::create(mode, 2).expect("a scene");
        scene.start_with_web().expect("the agent serves");
        scene.agent.stop().expect("ends");
        leave_rules(&scene);
        let before = others(&scene);
        assert!(ours(&scene) >= 1 || mode.is_ebpf(), "{:?}", tables(&scene));
        let file = scene.agent.config_file().display().to_string();
        let arguments: Vec<_> =
            arguments.iter().map(|word| if *word == "CONFIG" { file.as_str() } else { word }).collect();
        let said = scene.shunt(&arguments).expect("runs").success().expect("succeeds");
        assert!(said.contains("kube-proxy"), "{said}");
        assert_eq!(ours(&scene), 0, "{:?}", tables(&scene));
        assert!(!has_kube_proxys(&scene), "{said}");
        assert_others_are_untouched(&scene, &before);
        scene.assert_works(WEB, 1).expect_err("there is no service left");
        scene.shunt(&arguments).expect("runs").success().expect("a second time there is nothing to do");
        assert_others_are_untouched(&scene, &before);
    }
}

/// What is in the BPF file system besides the kernel's own two files.
fn pins(scene: &Scene) -> String {
    scene.output("find", &["/sys/fs/bpf", "-mindepth", "1", "-not", "-name", "*.debug"]).expect("find runs")
}

/// The last step of the way back: kube-proxy's rules are in place again, and shunt's go.
fn cleanup_of_its_own_leaves_the_node_to_kube_proxys_rules(mode: Mode) {
    let mut scene = Scene::create(mode, 2).expect("a scene");
    scene.start_with_web().expect("the agent serves");
    scene.agent.stop().expect("ends");
    leave_rules(&scene);
    let before = others(&scene);
    for _ in 0..2 {
        scene.shunt(&["cleanup", "--own"]).expect("runs").success().expect("succeeds");
        assert_eq!(ours(&scene), 0, "{:?}", tables(&scene));
        assert_eq!(pins(&scene), "", "pins of maps, programs or links");
        assert!(has_kube_proxys(&scene));
        assert_others_are_untouched(&scene, &before);
        scene.assert_works(WEB, 3).expect("kube-proxy's rules lead to the endpoint");
    }
}
