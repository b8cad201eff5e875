//! `shunt explain`: why a packet goes where it goes.

use anyhow::Result;

use super::machines::CLIENT;
use super::stage::Stage;
use super::terminal::verbatim;
use super::tour_internal::WEB_ADDRESSES;

/// Asks the agents about some of the packets of before.
pub(super) fn explain(stage: &mut Stage) -> Result<()> {
    stage.terminal.heading("shunt explain: why");
    let [web, _] = WEB_ADDRESSES;
    let [client, stranger, _] = CLIENT;
    let pod = stage.machines.pod("a-3")?.v4().to_string();
    let web = format!("{web}:80/TCP");
    ask(stage, "node-a", [&pod, &web], &["default/web", "10.244.1.11", "10.244.2.12"])?;
    let node_port = "192.168.50.20:30081/TCP";
    ask(stage, "node-b", [client, node_port], &["default/shop-local", "10.244.1.11", "drop"])?;
    let front = "203.0.113.10:80/TCP";
    ask(stage, "node-a", [stranger, front], &["default/front", "192.168.50.100/32", "drop"])
}

fn ask(stage: &mut Stage, node: &str, words: [&str; 2], expected: &[&str]) -> Result<()> {
    let [from, to] = words;
    stage.terminal.progress(&format!("{node}$ shunt explain {from} {to}"));
    let text = stage.run_agent(node, &["explain", from, to])?;
    verbatim(&text);
    let missing: Vec<&str> = expected.iter().filter(|word| !text.contains(**word)).copied().collect();
    if !stage
        .report
        .claim(missing.is_empty(), format!("explain {from} {to} does not speak of {}", missing.join(", ")))
    {
        stage.terminal.verdict(false, &format!("it should speak of {}", missing.join(", ")));
    }
    Ok(())
}
