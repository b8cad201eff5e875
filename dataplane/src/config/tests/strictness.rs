//! Unknown and mistyped fields are errors with their path and place.

use super::{HEAD, load_text};
use crate::config::ConfigError;

/// Place, field and reason of the syntax error of a file.
fn syntax_error(text: &str) -> (u64, u64, String, String) {
    match load_text(text, &[]).unwrap_err() {
        ConfigError::Syntax { line, column, field, reason, .. } => (line, column, field, reason),
        other => panic!("{other}"),
    }
}

fn of_lines(lines: &str) -> (u64, u64, String, String) {
    syntax_error(&format!("{HEAD}{lines}"))
}

#[test]
fn an_unknown_field_is_an_error_with_path_and_place() {
    let (line, column, field, reason) = of_lines("iptables:\n  masqueradeAll: true\n  masqueradeBits: 14\n");
    assert_eq!((line, column, field.as_str()), (5, 3, "iptables.masqueradeBits"));
    assert!(reason.contains("unknown field") && reason.contains("masqueradeBits"), "{reason}");
}

#[test]
fn an_unknown_field_at_the_top_is_an_error() {
    let (line, _, field, _) = of_lines("udpIdleTimeout: 250ms\n");
    assert_eq!((line, field.as_str()), (3, "udpIdleTimeout"));
}

#[test]
fn keys_are_case_sensitive() {
    let (line, _, field, _) = of_lines("Mode: nftables\n");
    assert_eq!((line, field.as_str()), (3, "Mode"));
}

#[test]
fn a_mistyped_field_is_an_error_with_path_and_the_place_of_value_or_key() {
    for (lines, at, path) in [
        ("bindAddressHardFail: 'true'\n", (3, 1), "bindAddressHardFail"),
        ("bindAddressHardFail: 1\n", (3, 1), "bindAddressHardFail"),
        ("conntrack:\n  min: many\n", (4, 3), "conntrack.min"),
        ("conntrack:\n  min: '5'\n", (4, 3), "conntrack.min"),
        ("conntrack:\n  min: 5000000000\n", (4, 3), "conntrack.min"),
        ("conntrack: 7\n", (3, 12), "conntrack"),
        ("nodePortAddresses: 10.0.0.0/8\n", (3, 20), "nodePortAddresses"),
        ("nodePortAddresses:\n- 10.0.0.0/8\n- 7\n", (5, 3), "nodePortAddresses[1]"),
        ("hostnameOverride: 17\n", (3, 19), "hostnameOverride"),
        ("hostnameOverride: true\n", (3, 19), "hostnameOverride"),
        ("mode: [nftables]\n", (3, 7), "mode"),
        ("featureGates: {SomeGate: 1}\n", (3, 16), "featureGates.SomeGate"),
        ("logging: {verbosity: -1}\n", (3, 11), "logging.verbosity"),
        ("logging: {flushFrequency: [5s]}\n", (3, 11), "logging.flushFrequency"),
        (
            "logging: {options: {json: {infoBufferSize: 5 apples}}}\n",
            (3, 44),
            "logging.options.json.infoBufferSize",
        ),
    ] {
        let (line, column, field, reason) = of_lines(lines);
        assert_eq!((line, column), at, "{lines}: {field}: {reason}");
        assert_eq!(field, path, "{reason}");
        assert!(!reason.is_empty());
    }
}

#[test]
fn a_duration_without_a_unit_is_an_error() {
    let (line, _, field, _) = of_lines("nftables:\n  syncPeriod: 30\n");
    assert_eq!((line, field.as_str()), (4, "nftables.syncPeriod"));
    let (line, column, field, reason) = of_lines("nftables:\n  syncPeriod: 30 seconds\n");
    assert_eq!((line, column, field.as_str()), (4, 15, "nftables.syncPeriod"));
    assert!(reason.contains("\"30 seconds\" is not a duration"), "{reason}");
}

#[test]
fn a_repeated_key_is_an_error() {
    let (line, _, _, reason) = of_lines("mode: nftables\nclusterCIDR: ''\nmode: auto\n");
    assert_eq!(line, 5);
    assert!(reason.contains("mode"), "{reason}");
}

#[test]
fn broken_yaml_is_an_error_with_its_place() {
    let (line, _, _, _) = of_lines("iptables:\n  syncPeriod: [1s\nmode: ''\n");
    assert!((4..=6).contains(&line), "{line}");
}

#[test]
fn the_message_has_file_place_field_and_reason() {
    let message = load_text(&format!("{HEAD}conntrack:\n  mni: 5\n"), &[]).unwrap_err().to_string();
    let (_, rest) = message.split_once("config.conf:").unwrap();
    assert!(rest.starts_with("4:3: conntrack.mni: unknown field"), "{message}");
}

#[test]
fn a_mistake_in_the_second_document_has_its_line_in_the_file() {
    let text = format!(
        "{HEAD}mode: ''\n--- # ours\n\napiVersion: shunt.dev/v1alpha1\nkind: ShuntConfiguration\nsocketLb: off\n"
    );
    let (line, column, field, _) = syntax_error(&text);
    assert_eq!((line, column, field.as_str()), (8, 1, "socketLb"));
}

#[test]
fn booleans_may_have_the_words_of_yaml_1_1() {
    for (word, value) in [("yes", true), ("on", true), ("true", true), ("no", false), ("off", false)] {
        let loaded = load_text(&format!("{HEAD}bindAddressHardFail: {word}\n"), &[]).unwrap();
        assert_eq!(loaded.settings.servers.bind_hard_fail, value, "{word}");
    }
}
