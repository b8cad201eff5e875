//! What a process has written to a file.

use std::fs;
use std::path::Path;

/// All of it; nothing if there is no file.
pub fn log_text(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}

/// The last lines of it.
pub fn log_tail(file: &Path, lines: usize) -> String {
    let text = log_text(file);
    let all: Vec<_> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_shown_or_as_many_as_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        assert_eq!((log_text(&file), log_tail(&file, 2)), (String::new(), String::new()));
        fs::write(&file, b"one\ntwo\n\xff\n").unwrap();
        assert_eq!(log_tail(&file, 2), "two\n\u{fffd}");
        assert_eq!(log_tail(&file, 9), "one\ntwo\n\u{fffd}");
    }
}
