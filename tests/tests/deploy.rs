//! The manifests of deploy/: every one of them builds, and keeps what it promises of kube-proxy's.
//!
//! With `kubectl` here, `kubectl kustomize` builds them. Without, the files are read as they are, and what can be said
//! of single files is checked.
#![expect(clippy::indexing_slicing, reason = "what is not there reads as null, and fails the comparison")]
#![expect(clippy::print_stderr, reason = "a reader of the test's output should know what was not looked at")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{ConfigMap, ServiceAccount},
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

const KUSTOMIZATIONS: [&str; 5] =
    ["daemon-set", "base", "overlays/kubeadm-kube-proxy", "overlays/ebpf", "overlays/cleanup"];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn has_kubectl() -> bool {
    let has =
        Command::new("kubectl").args(["version", "--client"]).output().is_ok_and(|o| o.status.success());
    if !has {
        eprintln!(
            "kubectl is not here: files are checked by themselves, not as kustomize would put them together"
        );
    }
    has
}

fn documents(text: &str) -> Result<Vec<Value>> {
    Ok(serde_saphyr::from_multiple(text)?)
}

/// The objects that a kustomization makes.
fn build(kustomization: &str) -> Result<Vec<Value>> {
    let folder = deploy().join(kustomization);
    let output = Command::new("kubectl").arg("kustomize").arg(&folder).output()?;
    ensure!(output.status.success(), "{kustomization}: {}", String::from_utf8_lossy(&output.stderr));
    documents(&String::from_utf8(output.stdout)?)
}

/// The DaemonSet of a kustomization; without kubectl the one in the file.
fn daemon_set(kustomization: &str, file: &str) -> Result<Value> {
    let objects = if has_kubectl() { build(kustomization)? } else { read(&deploy().join(file))? };
    objects.into_iter().find(|object| object["kind"] == "DaemonSet").context("no DaemonSet")
}

fn read(file: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    documents(&text).with_context(|| file.display().to_string())
}

/// Whether Kubernetes' own types know every field: what they do not know is lost on the way through them.
fn is_whole<T: DeserializeOwned + Serialize>(object: &Value) -> Result<()> {
    let typed: T = serde_json::from_value(object.clone())?;
    let back = serde_json::to_value(typed)?;
    ensure!(back == *object, "a field is unknown or of the wrong type: {object:#} reads as {back:#}");
    Ok(())
}

fn check_types(object: &Value) -> Result<()> {
    match object["kind"].as_str().unwrap_or_default() {
        "DaemonSet" => is_whole::<DaemonSet>(object),
        "ConfigMap" => is_whole::<ConfigMap>(object),
        "ServiceAccount" => is_whole::<ServiceAccount>(object),
        "ClusterRole" => is_whole::<ClusterRole>(object),
        "ClusterRoleBinding" => is_whole::<ClusterRoleBinding>(object),
        other => anyhow::bail!("kind {other:?} is not expected here"),
    }
}

#[test]
fn every_kustomization_builds_into_objects_that_kubernetes_knows() -> Result<()> {
    for kustomization in KUSTOMIZATIONS {
        let objects = if has_kubectl() { build(kustomization)? } else { resources_of(kustomization)? };
        assert!(!objects.is_empty(), "{kustomization} makes nothing");
        for object in &objects {
            check_types(object).with_context(|| format!("{kustomization}: {}", object["kind"]))?;
        }
    }
    Ok(())
}

/// The objects in the files that a kustomization lists, without what it builds on.
fn resources_of(kustomization: &str) -> Result<Vec<Value>> {
    let folder = deploy().join(kustomization);
    let listed = &read(&folder.join("kustomization.yaml"))?[0]["resources"];
    let mut objects = Vec::new();
    for name in listed.as_array().context("no resources")?.iter().filter_map(Value::as_str) {
        let path = folder.join(name);
        objects.extend(if path.is_dir() {
            resources_of(&format!("{kustomization}/{name}"))?
        } else {
            read(&path)?
        });
    }
    Ok(objects)
}

#[test]
fn every_kustomization_in_the_folder_is_tested() -> Result<()> {
    let mut found = Vec::new();
    let mut folders = vec![deploy()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with("kustomization.yaml") {
                found.push(folder.strip_prefix(deploy())?.display().to_string());
            }
        }
    }
    found.sort_unstable();
    let mut known = KUSTOMIZATIONS;
    known.sort_unstable();
    assert_eq!(found, known);
    Ok(())
}

#[test]
fn what_a_patch_or_generator_names_is_there() -> Result<()> {
    for kustomization in KUSTOMIZATIONS {
        let folder = deploy().join(kustomization);
        let document = &read(&folder.join("kustomization.yaml"))?[0];
        let patches =
            document["patches"].as_array().into_iter().flatten().filter_map(|patch| patch["path"].as_str());
        let generated = document["configMapGenerator"].as_array().into_iter().flatten();
        let files = generated.filter_map(|map| map["files"].as_array()).flatten().filter_map(Value::as_str);
        for name in patches.chain(files) {
            read(&folder.join(name))?;
        }
    }
    Ok(())
}

fn container(object: &Value) -> &Value {
    &object["spec"]["template"]["spec"]["containers"][0]
}

/// What both forms of the agent's DaemonSet have in common with kubeadm's kube-proxy.
fn check_agent_pod(object: &Value) {
    let pod = &object["spec"]["template"]["spec"];
    assert_eq!(pod["hostNetwork"], true);
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]));
    assert_eq!(pod["nodeSelector"], json!({"kubernetes.io/os": "linux"}));
    assert_eq!(object["spec"]["updateStrategy"]["type"], "RollingUpdate");
    let container = container(object);
    assert_eq!(container["command"][1], "--config=/var/lib/kube-proxy/config.conf");
    assert_eq!(container["command"][2], "--hostname-override=$(NODE_NAME)");
    assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["fieldPath"], "spec.nodeName");
    assert_eq!(container["volumeMounts"][0]["mountPath"], "/var/lib/kube-proxy");
}

#[test]
fn the_agent_runs_with_net_admin_and_without_privileges() -> Result<()> {
    let object = daemon_set("base", "daemon-set/daemon-set.yaml")?;
    check_agent_pod(&object);
    let security = &container(&object)["securityContext"];
    assert_eq!(security["privileged"], false);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["capabilities"], json!({"drop": ["ALL"], "add": ["NET_ADMIN"]}));
    let init = &object["spec"]["template"]["spec"]["initContainers"][0];
    assert_eq!(init["securityContext"]["privileged"], true);
    assert_eq!(init["command"][3], "--init-only");
    Ok(())
}

#[test]
fn the_ebpf_overlay_adds_what_programs_pins_and_sockets_need() -> Result<()> {
    let patch = &read(&deploy().join("overlays/ebpf/privileges.yaml"))?[0];
    let operations = patch.as_array().context("no operations")?;
    let added = |path: &str| -> Vec<&Value> {
        let of_path = operations.iter().filter(|operation| operation["path"] == path);
        of_path.map(|operation| &operation["value"]).collect()
    };
    let container = "/spec/template/spec/containers/0";
    let capabilities = added(&format!("{container}/securityContext/capabilities/add/-"));
    assert_eq!(capabilities, ["BPF", "PERFMON", "SYS_ADMIN", "SYS_PTRACE", "SYS_RESOURCE"]);
    assert_eq!(added("/spec/template/spec/hostPID"), [true]);
    let mounts = added(&format!("{container}/volumeMounts/-"));
    let volumes = added("/spec/template/spec/volumes/-");
    for path in ["/sys/fs/bpf", "/sys/fs/cgroup"] {
        assert!(mounts.iter().any(|mount| mount["mountPath"] == path && mount["readOnly"] != true), "{path}");
        assert!(volumes.iter().any(|volume| volume["hostPath"]["path"] == path), "{path}");
    }
    Ok(())
}

#[test]
fn the_cleanup_overlay_removes_what_is_shunts_and_leaves_kube_proxys() -> Result<()> {
    let object = daemon_set("overlays/cleanup", "overlays/cleanup/daemon-set.yaml")?;
    let pod = &object["spec"]["template"]["spec"];
    let cleanup = &pod["initContainers"][0];
    assert_eq!(cleanup["command"], json!(["/usr/local/bin/shunt", "cleanup", "--own"]));
    assert_eq!(cleanup["securityContext"]["capabilities"], json!({"drop": ["ALL"], "add": ["NET_ADMIN"]}));
    assert_eq!(cleanup["volumeMounts"][0]["mountPath"], "/sys/fs/bpf");
    assert_eq!(pod["volumes"][0]["hostPath"]["path"], "/sys/fs/bpf");
    assert_eq!(pod["hostNetwork"], true);
    Ok(())
}

#[test]
fn probes_ask_the_port_and_paths_of_kube_proxys_health_server() -> Result<()> {
    let object = daemon_set("base", "daemon-set/daemon-set.yaml")?;
    let container = container(&object);
    assert_eq!(container["ports"][0]["containerPort"], 10256);
    for (probe, path) in
        [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/healthz")]
    {
        assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": "healthz"}), "{probe}");
    }
    Ok(())
}

#[test]
fn the_kubeadm_overlay_keeps_every_name_of_kubeadms_own() -> Result<()> {
    if !has_kubectl() {
        let patch = &read(&deploy().join("overlays/kubeadm-kube-proxy/daemon-set.yaml"))?[0];
        return check_kubeadm_names(patch);
    }
    let objects = build("overlays/kubeadm-kube-proxy")?;
    assert_eq!(objects.len(), 1, "only the DaemonSet may be replaced");
    let object = &objects[0];
    check_kubeadm_names(object)?;
    check_agent_pod(object);
    assert_eq!(object["metadata"]["namespace"], "kube-system");
    assert_eq!(container(object)["name"], "kube-proxy");
    assert_eq!(container(object)["command"][0], "/usr/local/bin/kube-proxy");
    let security = &container(object)["securityContext"];
    assert_eq!(security["privileged"], false);
    // NET_RAW: to remove the rules of the old iptables.
    assert_eq!(security["capabilities"], json!({"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]}));
    assert_eq!(container(object)["volumeMounts"][1]["mountPath"], "/run/xtables.lock");
    Ok(())
}

fn check_kubeadm_names(object: &Value) -> Result<()> {
    assert_eq!(object["metadata"]["name"], "kube-proxy");
    assert_eq!(object["metadata"]["labels"]["k8s-app"], "kube-proxy");
    assert_eq!(object["spec"]["selector"]["matchLabels"], json!({"k8s-app": "kube-proxy"}));
    let template = &object["spec"]["template"];
    assert_eq!(template["metadata"]["labels"], json!({"k8s-app": "kube-proxy"}));
    assert_eq!(template["spec"]["serviceAccountName"], "kube-proxy");
    // kubeadm's volumes by kubeadm's names; the one with the configuration is its ConfigMap.
    let volumes = template["spec"]["volumes"].as_array().context("no volumes")?;
    assert!(
        volumes.contains(&json!({"name": "kube-proxy", "configMap": {"name": "kube-proxy"}})),
        "{volumes:?}"
    );
    let lock = json!({"path": "/run/xtables.lock", "type": "FileOrCreate"});
    assert!(volumes.contains(&json!({"name": "xtables-lock", "hostPath": lock})), "{volumes:?}");
    Ok(())
}

#[test]
fn the_role_allows_what_kube_proxys_watches_need_and_no_more() -> Result<()> {
    let objects = read(&deploy().join("base/cluster-role.yaml"))?;
    let role: ClusterRole = serde_json::from_value(objects[0].clone())?;
    let mut allowed = Vec::new();
    for rule in role.rules.context("no rules")? {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                allowed.push(format!("{group}/{resource}: {}", rule.verbs.join(" ")));
            }
        }
    }
    allowed.sort_unstable();
    assert_eq!(
        allowed,
        [
            "/events: create patch update",
            "/nodes: get list watch",
            "/pods: list watch",
            "/services: list watch",
            "discovery.k8s.io/endpointslices: list watch",
            "events.k8s.io/events: create patch update",
            "networking.k8s.io/servicecidrs: list watch",
        ]
    );
    Ok(())
}

#[test]
fn the_config_map_has_kubeadms_keys_with_files_that_parse() -> Result<()> {
    let kustomization = &read(&deploy().join("base/kustomization.yaml"))?[0];
    assert_eq!(kustomization["configMapGenerator"][0]["files"], json!(["config.conf", "kubeconfig.conf"]));
    let config = &read(&deploy().join("base/config.conf"))?[0];
    assert_eq!(config["kind"], "KubeProxyConfiguration");
    assert_eq!(config["clientConnection"]["kubeconfig"], "/var/lib/kube-proxy/kubeconfig.conf");
    let kubeconfig = &read(&deploy().join("base/kubeconfig.conf"))?[0];
    assert_eq!(kubeconfig["current-context"], kubeconfig["contexts"][0]["name"]);
    Ok(())
}

#[test]
fn the_dashboard_is_readable_and_each_panel_asks_for_our_metrics() -> Result<()> {
    let text = fs::read_to_string(deploy().join("dashboards/shunt.json"))?;
    let dashboard: Value = serde_json::from_str(&text)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    assert!(!panels.is_empty());
    for panel in panels {
        for target in panel["targets"].as_array().context("a panel without targets")? {
            let query = target["expr"].as_str().unwrap_or_default();
            assert!(query.contains("shunt_") || query.contains("kubeproxy_"), "{}: {query}", panel["title"]);
            assert_eq!(query.matches('(').count(), query.matches(')').count(), "{query}");
        }
    }
    Ok(())
}
