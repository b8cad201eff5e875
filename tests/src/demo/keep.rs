//! `--keep`: everything stays up, for `kubectl` and for a look around.

use std::time::Duration;

use anyhow::Result;

use super::agent;
use super::stage::Stage;
use super::terminal::verbatim;

/// How often it is looked whether the agents still run.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// Says what can be done, and waits for Ctrl-C, which removes everything. Ends by itself only if an agent does.
pub(super) fn wait(stage: &mut Stage) -> Result<()> {
    say_what_can_be_done(stage)?;
    // The lab's own watcher removes everything and ends the process when the signal comes.
    loop {
        std::thread::sleep(LOOK_AROUND);
        stage.check_agents()?;
    }
}

fn say_what_can_be_done(stage: &Stage) -> Result<()> {
    let directory = stage.node("node-a")?.surroundings().directory();
    let kubeconfig = directory.join("kubectl.conf");
    agent::write(&kubeconfig, &stage.control.kubeconfig_for_kubectl())?;
    let unique = stage.machines.unique();
    let kubectl = format!("kubectl --kubeconfig {}", kubeconfig.display());
    let program = stage.program.display();
    let terminal = &stage.terminal;
    terminal.heading("Left up for you");
    terminal.note("The API is on this machine's loopback:");
    verbatim(&format!(
        "{kubectl} get services,endpointslices,pods,nodes\n\
         {kubectl} apply -f your-service.yaml\n\
         {kubectl} label pod b-3 --overwrite app=web"
    ));
    terminal.note(
        "Services with a selector get endpoints: pods have the labels app (web or dns), node and pod, and serve HTTP\n\
         on port 8080 (named http) and UDP on 53 (named dns). Load balancers get an address of 203.0.113.0/24.",
    );
    terminal.note("Pods, nodes and the client are network namespaces:");
    verbatim(&format!(
        "ip netns list\n\
         ip netns exec {unique}-a-3 curl -s http://10.96.80.80/\n\
         ip netns exec {unique}-client curl -s http://192.168.50.20:30080/\n\
         ip netns exec {unique}-node-a nft list ruleset\n\
         ip netns exec {unique}-node-a {program} services\n\
         ip netns exec {unique}-node-a {program} explain 10.244.1.13 10.96.80.80:80/TCP"
    ));
    let logs: Vec<String> = stage.agents().map(|agent| agent.log().display().to_string()).collect();
    terminal.note("Logs of the agents:");
    verbatim(&logs.join("\n"));
    terminal.progress("Ctrl-C ends it, and removes everything.");
    Ok(())
}
