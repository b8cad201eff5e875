//! One emulated machine: QEMU without hardware help, from start to switching off.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    catalogue::Kernel,
    protocol::{Line, State},
    source::Source,
};
use crate::process;

/// For everything; emulated, it takes a minute on an idle machine. A busy one may take ten times as long.
const PATIENCE: Duration = Duration::from_mins(12);
/// Between two lines of the report: the kernel boots, or a check waits for what does not come.
const SILENCE: Duration = Duration::from_mins(4);
const MEMORY: &str = "1536M";
/// Words before `--` that the kernel does not know become the environment of the first process, those after it its
/// arguments.
const COMMAND_LINE: &str = "console=ttyS0 panic=-1 loglevel=4 mitigations=off rdinit=/bin/guest \
                            PATH=/bin SHUNT_GUEST=1 SHUNT_BIN=/bin/shunt -- boot";
/// Lines of the kernel's console that say why it went wrong.
const CONSOLE_LINES: usize = 25;

/// Boots, and collects what the guest reports until the machine is off.
pub(super) fn run(kernel: &Kernel, source: &Source, initramfs: &Path) -> Result<Vec<Line>> {
    let console = source.folder().join("console.log");
    let mut machine = Machine(start(source, initramfs, &console)?);
    let report = source.folder().join("report.log");
    let lines = listen(kernel, &mut machine.0, &report);
    let lines = lines.with_context(|| format!("the kernel's console ends in\n{}", tail(&console)))?;
    machine.0.wait().context("cannot wait for qemu")?;
    Ok(lines)
}

/// Killed when it is dropped.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // An error means that it has ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(source: &Source, initramfs: &Path, console: &Path) -> Result<Child> {
    let mut qemu = Command::new("qemu-system-x86_64");
    // Emulated everywhere, also where there is KVM: the same machine for everyone.
    qemu.args(["-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", MEMORY]);
    qemu.args(["-nodefaults", "-display", "none", "-monitor", "none", "-no-reboot"]);
    // The first serial port is the kernel's, the second the guest's.
    qemu.arg("-serial").arg(format!("file:{}", console.display())).args(["-serial", "stdio"]);
    qemu.arg("-kernel").arg(source.kernel()).arg("-initrd").arg(initramfs).args(["-append", COMMAND_LINE]);
    qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    qemu.spawn().context("cannot start qemu-system-x86_64")
}

/// Until the machine is off. Failures are shown at once, everything goes to the file `report`.
fn listen(kernel: &Kernel, machine: &mut Child, report: &Path) -> Result<Vec<Line>> {
    let failed = || format!("cannot write {}", report.display());
    let mut report_file = File::create(report).with_context(failed)?;
    let output = machine.stdout.take().context("qemu has no output")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + PATIENCE;
    let mut lines = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left.min(SILENCE)) {
            Ok(text) => {
                let Some(line) = Line::parse(&text) else { continue };
                writeln!(report_file, "{line}").with_context(failed)?;
                if matches!(&line, Line::Check { state: State::Failed, .. }) {
                    process::say(&format!("{}: {line}", kernel.name));
                }
                lines.push(line);
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(lines),
            Err(RecvTimeoutError::Timeout) => {
                let last = lines.last().map(ToString::to_string).unwrap_or_default();
                bail!("the machine does not come to an end; the last that was heard of it: {last:?}")
            }
        }
    }
}

fn tail(path: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(CONSOLE_LINES)..).unwrap_or_default().join("\n")
}
