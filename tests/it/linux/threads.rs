//! Threads of a model next to busy programs.

use std::process::{Child, Command};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::config::Folder;
use crate::support::worker::Worker;
use crate::support::{CAPITALS, Server, program, tiny, workers_of};

/// A program that always computes, until it is dropped.
struct BusyProgram(Child);

impl BusyProgram {
    fn start() -> Self {
        let loops = Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn();
        Self(loops.unwrap())
    }
}

impl Drop for BusyProgram {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Returns whether a quota of less than `threads` CPUs limits this process, in which case the number of threads stays.
fn is_throttled(threads: usize) -> bool {
    let output = program().arg("doctor").output().unwrap();
    let output = String::from_utf8_lossy(&output.stdout);
    let quota = output
        .split_once("a cgroup quota of ")
        .and_then(|(_, rest)| rest.split(' ').next()?.parse::<f64>().ok());
    quota.is_some_and(|quota| quota < f64::from(u32::try_from(threads).unwrap()))
}

/// Events of the log after which the model computes with fewer threads than configured. A loaded machine may cause the first.
const FEWER: [&str; 2] = [
    "starting with fewer threads: other programs use the CPUs",
    "changed the number of threads: other programs use the CPUs",
];

/// Longest time for which the model computes. While other tests fill the CPUs, the number of threads stays.
const BUSY_TIME: Duration = Duration::from_secs(30);

#[test]
fn running_calls_continue_with_fewer_threads_next_to_busy_programs() {
    let cpus = available_parallelism().unwrap().get();
    let threads = cpus.min(4);
    if cpus < 2 || is_throttled(threads) {
        return;
    }
    let load = json!({"path": tiny(), "n_gpu_layers": 0, "n_ctx": 512, "n_batch": 64, "n_threads": threads, "parallel": 4,
        "max_queue": 64, "cache_prompt": false});
    let mut worker = Worker::load(&load);
    // They leave one CPU.
    let _busy: Vec<BusyProgram> = (1..cpus).map(|_| BusyProgram::start()).collect();
    // Enough calls at once that the model always computes. The change comes in the middle of some.
    let capitals = CAPITALS.iter().cycle().take(60);
    let questions: Vec<Value> = capitals
        .clone()
        .map(|(country, _)| json!([{"role": "user", "content": format!("What is the capital of {country}?")}]))
        .collect();
    let started = Instant::now();
    while !FEWER.iter().any(|text| worker.has_logged(text)) && started.elapsed() < BUSY_TIME {
        for (answer, (country, capital)) in worker.ask(&questions, 40).iter().zip(capitals.clone())
        {
            let expected = format!("The capital of {country} is {capital}.");
            assert_eq!(answer.text, expected);
        }
    }
    // Other tests may have changed the load of the machine since.
    let current = worker.stats()["n_threads"].as_u64().unwrap();
    assert!((1..=threads as u64).contains(&current), "{current}");
}

/// Returns the environment of the worker of `model`, whose server has a wait policy of its own.
fn environment_of_worker(model: &str) -> String {
    let folder = Folder::new(
        "spin-count",
        &format!("[models.a]\npath = 'crab.gguf'\nn_threads = 1\n{model}"),
    );
    let mut command = program();
    command
        .arg("--config")
        .arg(folder.0.join("llama-mcp-server.toml"))
        .env_remove("GOMP_SPINCOUNT")
        .env("OMP_WAIT_POLICY", "active");
    let mut server = Server::spawn(command);
    let call = server.call_tool("a", json!({"text": "What is the capital of Cuba?"}));
    assert!(!server.result(call).is_error);
    let worker = workers_of(server.child.id())[0];
    let environment = std::fs::read(format!("/proc/{worker}/environ")).unwrap();
    String::from_utf8_lossy(&environment).into_owned()
}

#[test]
fn a_configured_spin_count_replaces_the_wait_policy_of_the_environment() {
    if !cfg!(feature = "openmp") {
        return;
    }
    let configured = environment_of_worker("spin_count = 500\n");
    assert!(configured.contains("GOMP_SPINCOUNT=500\0"), "{configured}");
    assert!(!configured.contains("OMP_WAIT_POLICY"), "{configured}");
    let inherited = environment_of_worker("");
    assert!(
        inherited.contains("OMP_WAIT_POLICY=active\0"),
        "{inherited}"
    );
    assert!(!inherited.contains("GOMP_SPINCOUNT"), "{inherited}");
}
