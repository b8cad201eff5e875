//! Answers of the agent as text for people.

use serde_json::Value;

/// `shunt status`.
pub(super) fn status(answer: &Value) -> String {
    let mut lines = Vec::new();
    let healthy = if flag(answer, "healthy") { "healthy" } else { "NOT HEALTHY" };
    let eligible = if flag(answer, "eligible") { "" } else { ", node not eligible for load balancers" };
    lines.push(format!("node {}: {healthy}{eligible}", text(answer, "node")));
    lines.extend(mode(answer));
    if let Some(kinds) = answer.get("waitingFor").and_then(Value::as_array) {
        let kinds: Vec<_> = kinds.iter().filter_map(Value::as_str).collect();
        lines.push(format!("waiting for the first list of {}; nothing is changed before", kinds.join(", ")));
    }
    lines.push(format!(
        "services {}, service ports {} IPv4 + {} IPv6, endpoints {} IPv4 + {} IPv6, frontends {}",
        shown(answer, "/services"),
        shown(answer, "/servicePorts/IPv4"),
        shown(answer, "/servicePorts/IPv6"),
        shown(answer, "/endpoints/IPv4"),
        shown(answer, "/endpoints/IPv6"),
        shown(answer, "/frontends"),
    ));
    lines.push(format!("programmed: {}", pairs(answer.get("programmed"))));
    lines.push(format!(
        "last sync: {}; pending for: {}",
        age(answer, "lastSyncSeconds"),
        age(answer, "pendingForSeconds")
    ));
    for (kind, watch) in answer.get("watches").and_then(Value::as_object).into_iter().flatten() {
        let state = match (flag(watch, "absent"), flag(watch, "connected")) {
            (true, _) => "not offered by the API server",
            (false, true) => "watching",
            (false, false) => "DISCONNECTED",
        };
        lines.push(format!("watch {kind}: {state}, last heard {} ago", age(watch, "ageSeconds")));
    }
    for refused in answer.get("refused").and_then(Value::as_array).into_iter().flatten() {
        lines.push(format!(
            "refused by the kernel: {}: {}",
            text(refused, "frontend"),
            text(refused, "reason")
        ));
    }
    for feature in answer.get("kernel").and_then(Value::as_array).into_iter().flatten() {
        lines.push(format!("kernel: {}", feature.as_str().unwrap_or_default()));
    }
    for problem in answer.get("problems").and_then(Value::as_array).into_iter().flatten() {
        lines.push(format!("problem: {}", problem.as_str().unwrap_or_default()));
    }
    lines.join("\n")
}

/// Which dataplane runs and why, what has no effect, and what does not work as it could.
fn mode(answer: &Value) -> Vec<String> {
    let Some(mode) = answer.get("mode") else { return Vec::new() };
    let (configured, running) = (text(mode, "configured"), text(mode, "running"));
    let asked = if configured == running { String::new() } else { format!(" (configured: {configured})") };
    let mut lines = vec![format!("mode {running}{asked}: {}", text(mode, "reason"))];
    for (key, word) in [("notes", "note"), ("degraded", "degraded")] {
        let sentences =
            mode.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        lines.extend(sentences.map(|sentence| format!("{word}: {sentence}")));
    }
    lines
}

/// `shunt services`.
pub(super) fn services(answer: &Value) -> String {
    let header = ["FRONTEND", "KIND", "SERVICE", "POLICY", "AFFINITY", "SOURCES", "ENDPOINTS"];
    let mut rows = vec![header.map(str::to_owned)];
    for frontend in answer.get("frontends").and_then(Value::as_array).into_iter().flatten() {
        let port = text(frontend, "port");
        let service = text(frontend, "service");
        let affinity = frontend.get("affinitySeconds").and_then(Value::as_u64);
        let inside = target(frontend.get("inside"));
        let outside = target(frontend.get("outside"));
        rows.push([
            text(frontend, "frontend").to_owned(),
            text(frontend, "kind").to_owned(),
            if port.is_empty() { service.to_owned() } else { format!("{service}:{port}") },
            text(frontend, "policy").to_owned(),
            affinity.map_or("-".to_owned(), |seconds| format!("{seconds}s")),
            target(frontend.get("sourceRanges")),
            if inside == outside { inside } else { format!("{inside} (from outside: {outside})") },
        ]);
    }
    aligned(&rows)
}

/// `shunt explain`.
pub(super) fn explanation(answer: &Value) -> String {
    text(answer, "text").to_owned()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or_default()
}

fn shown(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).map_or("?".to_owned(), ToString::to_string)
}

fn age(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_f64).map_or("-".to_owned(), |seconds| format!("{seconds:.1} s"))
}

fn pairs(value: Option<&Value>) -> String {
    let pairs = value.and_then(Value::as_object).into_iter().flatten();
    let pairs: Vec<_> = pairs.map(|(name, count)| format!("{count} {name}")).collect();
    if pairs.is_empty() { "nothing".to_owned() } else { pairs.join(", ") }
}

/// A pool, a word such as `reject`, or `-`.
fn target(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(word)) => word.clone(),
        Some(Value::Array(entries)) => entries.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        _ => "-".to_owned(),
    }
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn services_are_aligned_and_say_where_outside_differs() {
        let answer = json!({"frontends": [{
            "frontend": "10.96.0.10:53/udp", "kind": "clusterIp", "service": "kube-system/dns", "port": "dns",
            "policy": "internal", "inside": ["10.1.0.1:53"], "outside": ["10.1.0.1:53"], "affinitySeconds": null,
            "sourceRanges": null,
        }, {
            "frontend": "203.0.113.1:80/tcp", "kind": "loadBalancerIp", "service": "default/web", "port": "",
            "policy": "externalLocal", "inside": ["10.1.0.2:80"], "outside": "drop", "affinitySeconds": 60,
            "sourceRanges": ["192.0.2.0/24"],
        }]});
        let shown = services(&answer);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].contains("kube-system/dns:dns"));
        assert!(
            lines[2].ends_with("60s       192.0.2.0/24  10.1.0.2:80 (from outside: drop)"),
            "{}",
            lines[2]
        );
    }

    #[test]
    fn status_says_which_mode_runs_why_and_what_of_it_does_not_work() {
        let answer = json!({"mode": {
            "configured": "auto", "running": "nftables", "reason": "datapath: not supported", "notes": ["no ::1"],
            "degraded": ["socket load balancing is off"],
        }});
        let shown = status(&answer);
        for needed in [
            "\nmode nftables (configured: auto): datapath: not supported\n",
            "\nnote: no ::1\n",
            "\ndegraded: socket load balancing is off\n",
        ] {
            assert!(shown.contains(needed), "{needed}: {shown}");
        }
    }

    #[test]
    fn status_names_what_is_wrong() {
        let answer = json!({
            "node": "n1", "healthy": false, "eligible": true, "waitingFor": ["services"],
            "watches": {"services": {"connected": false, "ageSeconds": 4.0}},
            "refused": [{"frontend": "10.96.0.1:80/tcp", "reason": "EINVAL"}], "problems": ["service a/b: x"],
        });
        let shown = status(&answer);
        for needed in
            ["NOT HEALTHY", "waiting for the first list of services", "DISCONNECTED", "EINVAL", "a/b: x"]
        {
            assert!(shown.contains(needed), "{needed} is missing in {shown}");
        }
    }
}
