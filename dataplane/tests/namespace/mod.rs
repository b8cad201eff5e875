//! A network namespace for a test.

/// Runs `test` in a network namespace of its own, with loopback up. Needs root, fails without.
pub(crate) fn in_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("needs root");
            run("ip link set lo up");
            test()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs a command, its words separated by blanks, and returns what it wrote; it must succeed.
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = std::process::Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
