//! Tests of the sandbox. Each attempt is made twice: unrestricted, where it must succeed, and in a thread that a restricted one started.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError,
    Scope,
};
use rustix::process::{getppid, test_kill_process};

use super::*;
use crate::config::LoadSettings;
use crate::config::file::Lora;
use crate::gpu;
use crate::memory::{CgroupLimit, Memory};

fn models(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    folder.join(name)
}

fn load(name: &str) -> LoadSettings {
    LoadSettings {
        path: models(name),
        ..LoadSettings::default()
    }
}

/// Returns whether the kernel enforces `rules`. If not, prints that the test is skipped.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn kernel_has(rules: impl FnOnce(Ruleset) -> Result<Ruleset, RulesetError>) -> bool {
    let strict = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let has = rules(strict).is_ok();
    if !has {
        eprintln!("skipped: this kernel does not enforce it");
    }
    has
}

fn kernel_guards_files() -> bool {
    kernel_has(|rules| rules.handle_access(AccessFs::from_all(ABI::V1)))
}

/// Returns the result of `attempt` in a thread that a restricted one started.
fn restricted<T: Send>(load: &LoadSettings, attempt: impl Fn() -> T + Send + Sync) -> T {
    restricted_by(&load.clone().into(), attempt)
}

/// Returns what `attempt` returns in a thread that another, restricted for `launch`, started.
fn restricted_by<T: Send>(launch: &Launch, attempt: impl Fn() -> T + Send + Sync) -> T {
    thread::scope(|scope| {
        let inner = scope.spawn(|| {
            enter(launch).unwrap();
            thread::scope(|scope| scope.spawn(&attempt).join().unwrap())
        });
        inner.join().unwrap()
    })
}

fn assert_denied(what: &str, attempt: impl Fn() -> io::Result<()> + Send + Sync) {
    attempt().unwrap_or_else(|error| panic!("{what}: fails even without the sandbox: {error}"));
    let denied = restricted(&load("tiny-crab-chat.Q8_0.gguf"), attempt)
        .expect_err(what)
        .kind();
    assert_eq!(denied, io::ErrorKind::PermissionDenied, "{what}");
}

#[test]
fn only_the_files_of_the_model_are_readable() {
    let part = |n: u8| format!("tiny-crab-chat-split-0000{n}-of-00003.gguf");
    let settings = LoadSettings {
        lora: Some(Lora {
            path: models("tiny-crab-lora.gguf"),
            scale: 1.0,
        }),
        ..load(&part(1))
    };
    let names = [&part(1), &part(2), &part(3), "tiny-crab-lora.gguf"];
    let other = "tiny-crab-chat.Q8_0.gguf";
    let open = |name: &str| File::open(models(name)).map(drop);
    let found = restricted(&settings, || (names.map(open), open(other)));
    for (name, opened) in names.iter().zip(found.0) {
        opened.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    if kernel_guards_files() {
        let denied = found.1.unwrap_err().kind();
        assert_eq!(denied, io::ErrorKind::PermissionDenied);
    }
}

#[test]
fn a_worker_cannot_write_or_remove_files_or_start_programs() {
    if !kernel_guards_files() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("llama-mcp-sandbox-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("file");
    assert_denied("writing", || fs::write(&file, "text"));
    assert_denied("a folder", || {
        let inner = folder.join("inner");
        fs::create_dir(&inner)?;
        fs::remove_dir(&inner)
    });
    assert_denied("appending to the model", || {
        let model = models("tiny-crab-chat.Q8_0.gguf");
        OpenOptions::new().append(true).open(model).map(drop)
    });
    assert_denied("removing", || {
        // Without the sandbox, the file is created again.
        fs::remove_file(&file).and_then(|()| fs::write(&file, "text"))
    });
    assert_denied("a program", || {
        Command::new("/bin/sh")
            .arg("-c")
            .arg(":")
            .status()
            .map(drop)
    });
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_driver_can_create_files_only_in_its_cache() {
    if !kernel_guards_files() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("llama-mcp-driver-{}", std::process::id()));
    drop(fs::remove_dir_all(&folder));
    let cache = folder.join("cache");
    fs::create_dir_all(&cache).unwrap();
    let mut launch = Launch::from(load("tiny-crab-chat.Q8_0.gguf"));
    launch.grant.driver_cache = Some(cache.clone());
    let (kept, beside) = restricted_by(&launch, || {
        let kept = || {
            let inner = cache.join("inner");
            fs::create_dir(&inner)?;
            fs::write(inner.join("new"), "shader")?;
            fs::rename(inner.join("new"), inner.join("kept"))?;
            let text = fs::read(inner.join("kept"))?;
            fs::remove_file(inner.join("kept"))?;
            fs::remove_dir(&inner).map(|()| text)
        };
        let link = || std::os::unix::fs::symlink("/etc/passwd", cache.join("link"));
        let beside = [
            fs::write(folder.join("file"), "text"),
            fs::create_dir(folder.join("other")),
            fs::remove_dir(&cache),
            link(),
        ];
        (kept(), beside)
    });
    assert_eq!(kept.unwrap(), b"shader");
    for attempt in beside {
        let denied = attempt.unwrap_err().kind();
        assert_eq!(denied, io::ErrorKind::PermissionDenied);
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_worker_can_neither_open_nor_accept_tcp_connections() {
    if !kernel_has(|rules| rules.handle_access(AccessNet::from_all(ABI::V4))) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    assert_denied("connecting", || TcpStream::connect(address).map(drop));
    assert_denied("listening", || TcpListener::bind("127.0.0.1:0").map(drop));
}

#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn a_worker_cannot_create_any_socket() {
    use std::os::unix::net::{UnixListener, UnixStream};
    // GPU drivers need sockets.
    if gpu::IN_BUILD {
        return;
    }
    let path = std::env::temp_dir().join(format!("llama-mcp-sandbox-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    assert_denied("a socket with a path", || {
        UnixStream::connect(&path).map(drop)
    });
    assert_denied("a pair", || UnixStream::pair().map(drop));
    assert_denied("UDP", || UdpSocket::bind("127.0.0.1:0").map(drop));
    drop(listener);
    fs::remove_file(&path).unwrap();
}

#[test]
fn a_worker_can_neither_read_nor_signal_other_processes() {
    let parent = getppid().unwrap();
    if kernel_guards_files() {
        let environment = format!("/proc/{}/environ", parent.as_raw_nonzero());
        assert_denied("an environment", || fs::read(&environment).map(drop));
        // GPU drivers read them.
        if !gpu::IN_BUILD {
            let command_line = format!("/proc/{}/cmdline", parent.as_raw_nonzero());
            assert_denied("a command line", || fs::read(&command_line).map(drop));
            assert_denied("a list of processes", || fs::read_dir("/proc").map(drop));
        }
    }
    if kernel_has(|rules| rules.scope(Scope::Signal)) {
        assert_denied("a signal", || Ok(test_kill_process(parent)?));
    }
}

#[test]
fn information_about_the_machine_and_the_worker_stays_readable() {
    let settings = load("tiny-crab-chat.Q8_0.gguf");
    let found = restricted(&settings, || {
        let read = |path: &str| fs::read(path).map_err(|error| format!("{path}: {error}"));
        let proc = ["self/status", "thread-self/stat", "cpuinfo", "meminfo"];
        let proc = proc.map(|name| read(&format!("/proc/{name}")));
        (proc, Memory::now())
    });
    for read in found.0 {
        assert!(!read.unwrap().is_empty());
    }
    let outside = Memory::now();
    assert_eq!(found.1.total(), outside.total());
    let is_hidden = |memory: Memory| memory.cgroup == CgroupLimit::Hidden;
    assert_eq!(is_hidden(found.1), is_hidden(outside));
}

/// Returns the results of entering the sandbox, in each mode but `off`, on a kernel that fails `call` with `error`.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn entered_without(call: i64, error: i32) -> [Result<(), EngineError>; 2] {
    [SandboxMode::Auto, SandboxMode::Required].map(|sandbox| {
        let settings = LoadSettings {
            sandbox,
            ..load("tiny-crab-chat.Q8_0.gguf")
        };
        thread::scope(|scope| {
            let inner = scope.spawn(|| {
                system_calls::deny_one(call, error).unwrap();
                enter(&settings.into())
            });
            inner.join().unwrap()
        })
    })
}

#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn a_required_sandbox_is_an_error_if_the_kernel_lacks_it() {
    let [auto, required] = entered_without(libc::SYS_landlock_create_ruleset, libc::ENOSYS);
    assert_eq!(auto, Ok(()));
    let error = required.unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Load);
    assert!(error.text.contains("the kernel has no Landlock"), "{error}");
    assert!(error.hint.unwrap().contains("sandbox"));
    let [auto, required] = entered_without(libc::SYS_seccomp, libc::EINVAL);
    assert_eq!(auto, Ok(()));
    let text = required.unwrap_err().text;
    assert!(text.contains("cannot be restricted (seccomp)"), "{text}");
}

#[test]
fn mode_off_restricts_nothing() {
    let settings = LoadSettings {
        sandbox: SandboxMode::Off,
        ..load("tiny-crab-chat.Q8_0.gguf")
    };
    restricted(&settings, || File::open(models("tiny-crab-lora.gguf"))).unwrap();
}
