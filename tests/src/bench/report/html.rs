//! The page: one file, with nothing to be loaded and nothing to be run.

use anyhow::Result;

use super::{Report, gallery, tables};
use crate::bench::figure::Unit;
use crate::bench::show::show;

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub(super) fn page(report: &Report) -> Result<String> {
    let mut parts = vec![head(report), facts(report), doubts(report), tables::goals(report)];
    for room in gallery::rooms(report)? {
        let charts = room.charts.iter().map(|chart| element("figure", chart)).collect::<String>();
        let caption =
            if room.caption.is_empty() { String::new() } else { element("p", &escaped(room.caption)) };
        parts.push(format!(
            "<section>{}{caption}<div class=\"charts\">{charts}</div></section>",
            element("h2", room.title)
        ));
    }
    parts.push(tables::ratios(report));
    parts.push(tables::values(report));
    parts.push(notes(report));
    parts.push("</main></body></html>\n".to_owned());
    Ok(parts.join("\n"))
}

/// Text that may stand between tags and within quotes.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Something between tags; the content is HTML already.
pub(super) fn element(tag: &str, content: &str) -> String {
    format!("<{tag}>{content}</{tag}>")
}

fn head(report: &Report) -> String {
    let title = format!("shunt benchmark, {}", report.conditions.started.get(..10).unwrap_or_default());
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{0}</title>\n\
         <style>\n{STYLE}</style></head>\n<body><main><h1>{0}</h1>",
        escaped(&title)
    )
}

fn facts(report: &Report) -> String {
    let (machine, conditions) = (&report.machine, &report.conditions);
    let kind = if machine.virtualization.is_empty() { "" } else { ", virtual" };
    let kernel = format!("Linux {}, {}", machine.kernel, machine.system);
    #[expect(clippy::cast_precision_loss, reason = "memory in three digits")]
    let memory = show(Unit::Bytes, machine.memory as f64);
    let facts = [
        ("goals", report.goals()),
        ("processor", format!("{} × {}{kind}", machine.cpus, machine.cpu)),
        ("memory", memory),
        ("system", kernel),
        ("nft", machine.nft.clone()),
        ("Spectre v2", machine.spectre_v2.clone()),
        ("measured", format!("{} to {}", conditions.started, conditions.finished)),
        ("load", format!("{:.2} at the start, {:.2} at the end", conditions.load.0, conditions.load.1)),
        ("commit", conditions.commit.clone()),
        ("run", if conditions.quick { "quick" } else { "full" }.to_owned()),
    ];
    let facts = facts.iter().filter(|(_, fact)| !fact.is_empty());
    let rows = facts.map(|(name, fact)| format!("<dt>{name}</dt><dd>{}</dd>", escaped(fact)));
    element("dl", &rows.collect::<String>())
}

fn doubts(report: &Report) -> String {
    let items = report.conditions.doubts.iter().map(|doubt| element("li", &escaped(doubt)));
    let items: String = items.collect();
    if items.is_empty() {
        return String::new();
    }
    format!("<aside><strong>To be taken with care</strong><ul>{items}</ul></aside>")
}

fn notes(report: &Report) -> String {
    let notes = report.conditions.notes.iter().map(|note| element("li", &escaped(note)));
    format!("<section><h2>How it was measured</h2><ul>{}</ul></section>", notes.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::sample;

    #[test]
    fn the_page_stands_alone() {
        let page = page(&sample::report(7, &[1, 1000])).unwrap();
        for loaded in ["<script", "<link", "<img", "@import", "url("] {
            assert!(!page.contains(loaded), "{loaded}");
        }
        let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("http://") && !elsewhere.contains("https://"));
    }

    #[test]
    fn what_is_opened_is_closed() {
        let page = page(&sample::report(7, &[1, 1000])).unwrap();
        for tag in
            ["section", "table", "tr", "td", "th", "figure", "svg", "details", "dl", "ul", "li", "text"]
        {
            let opened =
                page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
            assert!(opened > 0 || tag == "aside", "no {tag}");
        }
    }

    #[test]
    fn doubts_come_before_the_figures() {
        let mut report = sample::report(3, &[1, 1000]);
        assert!(!page(&report).unwrap().contains("<aside>"));
        report.conditions.doubts = vec!["load < 7 & rising".to_owned()];
        let page = page(&report).unwrap();
        assert!(page.find("load &lt; 7 &amp; rising") < page.find("<section>"));
    }
}
