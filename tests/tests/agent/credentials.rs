//! Where the agent finds the API server, and how it proves who it is.

use std::ffi::OsString;
use std::fs;

use base64::Engine as _;
use serde_json::{Value, json};
use shunt_tests::Mode;
use shunt_tests::agent::{ApiKind, Scene};
use shunt_tests::apiserver::Options;

use super::WEB;

const ACCOUNT: &str = "/run/secrets/kubernetes.io/serviceaccount";

/// A scene whose API server asks for TLS and a token, and a service.
fn secured_scene() -> Scene {
    let options = Options { tls: true, token: Some("account-token".to_owned()) };
    let scene = Scene::with_api(Mode::Nftables, 2, &ApiKind::Own(options)).expect("a scene");
    scene.publish("web", "10.96.0.10", &[0]).expect("applies");
    scene
}

/// The certificate of the server.
fn authority(scene: &Scene) -> Vec<u8> {
    let kubeconfig: Value = serde_json::from_str(&scene.api.kubeconfig()).expect("JSON");
    let data = kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"].as_str().expect("data");
    base64::engine::general_purpose::STANDARD.decode(data).expect("base64")
}

/// kubeadm's kubeconfig for kube-proxy names files, and the kubelet replaces those.
#[test]
fn a_kubeconfig_that_names_files_works() {
    let mut scene = secured_scene();
    let file = |name: &str| scene.agent.directory().join(name);
    fs::write(file("ca.crt"), authority(&scene)).expect("writes");
    // With the newline that editors and `echo` leave.
    fs::write(file("token"), "account-token\n").expect("writes");
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "default",
        "clusters": [{"name": "default",
                      "cluster": {"server": scene.api.url(), "certificate-authority": file("ca.crt")}}],
        "contexts": [{"name": "default",
                      "context": {"cluster": "default", "namespace": "default", "user": "default"}}],
        "users": [{"name": "default", "user": {"tokenFile": file("token")}}],
    });
    fs::write(file("kubeconfig.conf"), kubeconfig.to_string()).expect("writes");
    scene.start().expect("starts");
    scene.wait_for_answer(WEB).expect("works");
}

#[test]
fn in_a_pod_the_service_account_is_used() {
    let mut scene = secured_scene();
    fs::write(scene.agent.directory().join("ca.crt"), authority(&scene)).expect("writes");
    // The mount is the node's own, and goes with its programs.
    let script = format!(
        "mount -t tmpfs account /run && mkdir -p {ACCOUNT} && cp {}/ca.crt {ACCOUNT} && \
         printf account-token > {ACCOUNT}/token && printf kube-system > {ACCOUNT}/namespace",
        scene.agent.directory().display()
    );
    scene.output("sh", &["-c", &script]).expect("an account");
    scene.agent.config["clientConnection"] = json!({});
    scene.agent.environment =
        ["KUBERNETES_SERVICE_HOST=192.168.50.100", "KUBERNETES_SERVICE_PORT=6443"].map(OsString::from).into();
    scene.start().expect("starts");
    scene.wait_for_answer(WEB).expect("works");
}

#[test]
fn a_token_file_that_is_missing_or_empty_is_named() {
    let mut scene = secured_scene();
    let token = scene.agent.directory().join("token");
    let mut kubeconfig: Value = serde_json::from_str(&scene.api.kubeconfig()).expect("JSON");
    kubeconfig["users"][0]["user"] = json!({"tokenFile": token});
    fs::write(scene.agent.directory().join("kubeconfig.conf"), kubeconfig.to_string()).expect("writes");
    for (text, problem) in [(None, "No such file"), (Some("\n"), "the file is empty")] {
        if let Some(text) = text {
            fs::write(&token, text).expect("writes");
        }
        scene.launch().expect("starts");
        let ended = scene.agent.wait_for_end().expect("ends");
        assert_eq!(ended.code().expect("a code"), 1);
        let said = [format!("token file {}", token.display()), problem.to_owned()];
        assert!(said.iter().all(|words| ended.output.contains(words)), "{}", ended.output);
    }
}

#[test]
fn without_any_way_to_the_api_server_the_agent_says_what_is_missing() {
    let mut scene = Scene::create(Mode::Nftables, 0).expect("a scene");
    scene.agent.config["clientConnection"] = json!({});
    scene.launch().expect("starts");
    let ended = scene.agent.wait_for_end().expect("ends");
    assert_eq!(ended.code().expect("a code"), 1);
    assert!(ended.output.contains("clientConnection.kubeconfig"), "{}", ended.output);
}

/// A server that others answer for is not trusted.
#[test]
fn a_certificate_of_another_server_is_refused() {
    let mut scene = secured_scene();
    let other = secured_scene();
    let kubeconfig = scene.agent.directory().join("kubeconfig.conf");
    fs::write(kubeconfig, other.api.kubeconfig()).expect("writes");
    scene.start().expect("starts");
    let line = scene.wait_for_log(&["watch failed", "certificate"]).expect("says why");
    assert!(line.contains("WARN"), "{line}");
    scene.assert_works(WEB, 1).expect_err("nothing is known");
}
