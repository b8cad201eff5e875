//! The agent is killed, and started again.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use super::lines::{Line, Seen, Want};
use super::machines::{CHAT_PORT, NODES};
use super::objects;
use super::stage::Stage;
use super::stream::{Sample, Stream, words};
use crate::lab::{Client, Dial, Outcome, Protocol};

const NODE: &str = "node-a";
const CHAT_NODE_PORT: u16 = 30_007;
const WEB_NODE_PORT: u16 = 30_070;
const EVERY: Duration = Duration::from_millis(10);
/// How long the node is without its agent.
const DOWN: Duration = Duration::from_millis(700);
/// Of each kind of client.
const CONNECTIONS: usize = 5;

/// An open connection and where it is held.
struct Conversation {
    from: &'static str,
    client: Client,
    answers: usize,
}

/// Connections stay, new ones are served, and what changed meanwhile is caught up with.
pub(super) fn restart(stage: &mut Stage) -> Result<()> {
    stage.terminal.heading("The agent of node-a is killed, and started again");
    let chat = json!([{"name": "chat", "port": 7, "targetPort": "chat", "nodePort": CHAT_NODE_PORT}]);
    let spec = json!({"type": "NodePort", "selector": {"app": "web"}, "ports": chat});
    let chat = stage.service_at("chat", &spec, CHAT_PORT)?;
    let spec = |selector| json!({"type": "NodePort", "selector": selector, "ports": objects::http_at(WEB_NODE_PORT)});
    let steady = stage.service_at("steady", &spec(json!({"app": "web"})), 80)?;
    stage.settle()?;
    let mut conversations = open_all(stage, chat)?;
    let streams = [
        Stream::start(stage.machines.host("a-3")?, steady, EVERY, Instant::now()),
        Stream::start(stage.machines.host("client")?, at_node(WEB_NODE_PORT)?, EVERY, Instant::now()),
    ];
    ask_all(stage, &mut conversations)?;

    let agent = stage.agent(NODE)?;
    let id = agent.id().context("the agent does not run")?;
    agent.kill()?;
    stage.terminal.progress(&format!("SIGKILL to process {id}, the agent of {NODE}"));
    ask_all(stage, &mut conversations)?;
    stage.service("steady", &spec(json!({"app": "dns"})))?;
    stage.terminal.progress("meanwhile service steady is given other endpoints: a-3 and b-3");
    std::thread::sleep(DOWN);
    ask_all(stage, &mut conversations)?;

    let began = Instant::now();
    stage.start_agent(NODE)?;
    stage.settle_on(&[NODE])?;
    stage
        .terminal
        .progress(&format!("started again; all of the API is in effect after {:.0?}", began.elapsed()));
    ask_all(stage, &mut conversations)?;
    judge(stage, &conversations, streams)?;
    stage.show(&[Line::http(NODE, "steady", steady, Want::Spread(&["a-3", "b-3"], Seen::Client))])
}

fn at_node(port: u16) -> Result<SocketAddr> {
    let [a, _] = &NODES;
    let [address, _] = a.addresses;
    Ok(SocketAddr::new(address.parse()?, port))
}

fn open_all(stage: &Stage, chat: SocketAddr) -> Result<Vec<Conversation>> {
    let mut conversations = Vec::new();
    for (from, to) in [("a-3", chat), (NODE, chat), ("client", at_node(CHAT_NODE_PORT)?)] {
        for _ in 0..CONNECTIONS {
            let dial = Dial::new(Protocol::Tcp, to).patience(Duration::from_secs(3));
            let client = stage.machines.host(from)?.open(dial)?;
            conversations.push(Conversation { from, client, answers: 0 });
        }
    }
    Ok(conversations)
}

/// One request on each connection.
fn ask_all(stage: &mut Stage, conversations: &mut Vec<Conversation>) -> Result<()> {
    for Conversation { from, client, answers } in std::mem::take(conversations) {
        let (client, outcome) = stage.machines.host(from)?.ask_again(client)?;
        let answered = usize::from(matches!(outcome, Outcome::Answer(_)));
        stage.report.requests += 1;
        conversations.push(Conversation { from, client, answers: answers + answered });
    }
    Ok(())
}

fn judge(stage: &mut Stage, conversations: &[Conversation], streams: [Stream; 2]) -> Result<()> {
    let unbroken = conversations.iter().filter(|conversation| conversation.answers == 4).count();
    stage.claim(
        unbroken == conversations.len(),
        &format!("{unbroken} of {} open connections answered before, during and after", conversations.len()),
    );
    let mut samples = Vec::new();
    for stream in streams {
        samples.extend(stream.finish()?);
    }
    let failed: Vec<&Sample> = samples.iter().filter(|sample| !sample.is_answered()).collect();
    stage.report.requests += samples.len();
    let problems = words(&failed, &stage.machines.names);
    stage.claim(
        failed.is_empty() && samples.len() > 50,
        format!("{} new connections meanwhile, {} failed {problems}", samples.len(), failed.len()).trim_end(),
    );
    Ok(())
}
