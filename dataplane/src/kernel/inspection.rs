//! What the kernel itself holds for a destination, for `shunt explain`.

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::plan::explain::Question;

/// What somebody wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The first packet of the connection.
    pub question: Question,
    /// Run that packet through what is loaded, too.
    pub probe: bool,
}

/// What the kernel holds for a destination, as it was just read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inspected {
    /// In the order in which a packet meets them.
    pub facts: Vec<Fact>,
    /// What became of a packet, if that was asked and can be tried.
    pub probe: Option<Trial>,
}

/// One thing that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// The object in the kernel: `frontends4`, `service-ips`.
    pub object: String,
    /// What it says.
    pub value: String,
}

/// A packet that was run through a loaded program, without any interface seeing it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// Name of the program.
    pub program: String,
    /// The interface that the packet was said to be on.
    pub interface: String,
    /// The packet that went in.
    pub sent: String,
    /// What the program decided.
    pub verdict: String,
    /// The packet that came out.
    pub became: String,
    /// The packet mark that it got (0: none).
    pub mark: u32,
}

impl Inspected {
    /// Notes one thing.
    pub fn note(&mut self, object: impl Into<String>, value: impl Into<String>) {
        self.facts.push(Fact { object: object.into(), value: value.into() });
    }
}

impl fmt::Display for Inspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::from("in the kernel:\n");
        for Fact { object, value } in &self.facts {
            writeln!(text, "  {object}: {value}")?;
        }
        if let Some(Trial { program, interface, sent, verdict, became, mark }) = &self.probe {
            writeln!(text, "probe, {program} on {interface}:")?;
            writeln!(text, "  in:      {sent}")?;
            writeln!(text, "  verdict: {verdict}")?;
            writeln!(text, "  out:     {became}")?;
            if *mark != 0 {
                writeln!(text, "  mark:    {mark:#x}")?;
            }
        }
        f.write_str(text.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_come_in_order_and_a_mark_only_where_there_is_one() {
        let mut inspected = Inspected::default();
        inspected.note("frontends4", "service 1");
        inspected.note("inside", "10.244.1.5:80");
        let trial = Trial {
            program: "ingress".into(),
            interface: "eth0".into(),
            sent: "a".into(),
            verdict: "next".into(),
            became: "b".into(),
            mark: 0,
        };
        inspected.probe = Some(trial.clone());
        let text = inspected.to_string();
        assert!(text.starts_with(
            "in the kernel:\n  frontends4: service 1\n  inside: 10.244.1.5:80\nprobe, ingress on eth0:\n"
        ));
        assert!(!text.contains("mark"));
        inspected.probe = Some(Trial { mark: 0x4000, ..trial });
        assert!(inspected.to_string().ends_with("mark:    0x4000"));
    }
}
