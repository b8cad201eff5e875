use super::*;

/// A place for lines that a test can read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn log(options: &LogOptions, emit: impl FnOnce(&LogHandle)) -> String {
    let lines = Lines::default();
    let to = lines.clone();
    let (subscriber, handle) = subscriber(options, move || to.clone()).unwrap();
    tracing::subscriber::with_default(subscriber, || emit(&handle));
    lines.text()
}

fn one_of_each() {
    tracing::info!(target: "shunt::reconcile", "agent-info");
    tracing::debug!(target: "shunt::reconcile", "agent-debug");
    tracing::trace!(target: "shunt::reconcile", "agent-trace");
    tracing::info!(target: "kube_client::client", "kube-info");
    tracing::debug!(target: "kube_client::client", "kube-debug");
    tracing::info!(target: "rustls", "rest-info");
}

#[test]
fn verbosity_opens_up_the_agent_before_its_libraries() {
    let all = ["agent-info", "agent-debug", "agent-trace", "kube-info", "kube-debug", "rest-info"];
    let shown = [
        (0, vec!["agent-info"]),
        (2, vec!["agent-info", "kube-info"]),
        (4, vec!["agent-info", "agent-debug", "kube-info"]),
        (6, all.to_vec()),
    ];
    for (verbosity, expected) in shown {
        let options = LogOptions { verbosity, ..LogOptions::default() };
        let text = log(&options, |_| one_of_each());
        let seen: Vec<_> = all.into_iter().filter(|message| text.contains(message)).collect();
        assert_eq!(seen, expected, "-v={verbosity}");
    }
}

#[test]
fn the_level_of_a_running_agent_changes() {
    let text = log(&LogOptions::default(), |handle| {
        tracing::debug!(target: "shunt::watch", "too early");
        handle.set_verbosity(4).unwrap();
        assert_eq!(handle.verbosity(), 4);
        tracing::debug!(target: "shunt::watch", "in time");
        handle.set_verbosity(0).unwrap();
        tracing::debug!(target: "shunt::watch", "too late");
    });
    assert!(text.contains("in time") && !text.contains("too"), "{text}");
}

#[test]
fn vmodule_opens_up_single_modules_and_survives_a_change_of_level() {
    let options = LogOptions { vmodule: "nft*=5, wat?h=6".to_owned(), ..LogOptions::default() };
    let text = log(&options, |handle| {
        tracing::debug!(target: "shunt::kernel::nftables", "nft-debug");
        tracing::trace!(target: "shunt::kernel::nftables", "nft-trace");
        tracing::trace!(target: "shunt::watch", "watch-trace");
        handle.set_verbosity(0).unwrap();
        tracing::debug!(target: "shunt::kernel::nftables", "nft-still");
        tracing::debug!(target: "shunt::kernel::netlink", "netlink-debug");
    });
    let seen =
        ["nft-debug", "nft-trace", "watch-trace", "nft-still", "netlink-debug"].map(|m| text.contains(m));
    assert_eq!(seen, [true, false, true, true, false], "{text}");
}

#[test]
fn a_vmodule_that_is_not_understood_is_an_error_that_names_the_part() {
    for (vmodule, entry) in [("nft", "nft"), ("nft=x", "nft=x"), ("watch=4,plan=", "plan=")] {
        let error = filter(0, vmodule).unwrap_err();
        assert!(error.to_string().contains(&format!("{entry:?}")), "{error}");
    }
}

#[test]
fn json_lines_are_objects_with_flat_fields() {
    let options = LogOptions { format: LogFormat::Json, ..LogOptions::default() };
    let text = log(&options, |_| tracing::info!(target: "shunt::plan", services = 3, "planned"));
    let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(
        (&line["level"], &line["message"], &line["services"]),
        (&"INFO".into(), &"planned".into(), &3.into())
    );
}

#[test]
fn text_lines_have_no_colour_codes() {
    let text = log(&LogOptions::default(), |_| tracing::warn!(target: "shunt", "plain"));
    assert!(text.contains(" WARN shunt: plain") && !text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn every_module_that_vmodule_names_exists() {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for module in MODULES {
        let path = module.split("::").skip(1).fold(source.clone(), |path, part| path.join(part));
        assert!(path.join("mod.rs").exists(), "{module}");
    }
}
