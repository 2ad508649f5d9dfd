//! Starts the process of a worker, talks to it through its pipes, and ends it.

use std::io;
#[cfg(unix)]
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use tokio::io::BufReader;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::command_pipe::CommandPipe;
use super::cpu_turns::CpuTurns;
use super::lines::Lines;
use super::model_log::{self, CrashLines, ModelLog};
use crate::config::LoadSettings;
use crate::gpu;
use crate::process::activity::{Activity, activity_of};
use crate::process::cpu_quota;
use crate::process::usage::{Usage, usage_of};
use crate::telemetry;
use crate::threads::{self, SystemLimit};
use crate::worker;
use crate::worker::driver_cache::{self, DriverCaches};
use crate::worker::environment::passed_on;
use crate::worker::spin_count::{Spin, Waits};
use crate::worker::{CpuLocks, HELPER_THREADS, Launch};

/// Grace period for a worker to shut down before it is killed: it only has to free its memory.
const END_LIMIT: Duration = Duration::from_secs(2);

/// Longest time that a killed worker may take to exit. The system must free its memory, which may be hundreds of gigabytes, or on a GPU.
const KILL_LIMIT: Duration = Duration::from_secs(20);

/// Starts workers, all from one thread that lives as long as the server: the kernel sends the parent-death signal when the parent *thread*
/// ends.
#[derive(Debug, Clone)]
pub(crate) struct Launcher {
    program: PathBuf,
    /// Log level of workers, or levels by module.
    log_level: String,
    /// Longest time without a finished step. See [`Self::set_stall_timeout`].
    stall_timeout: Arc<Mutex<Option<Duration>>>,
    driver_caches: Arc<DriverCaches>,
    cpu_turns: CpuTurns,
    /// Cancelled when the server starts to shut down. From then on, a worker that receives SIGTERM is not ended, so that its calls can finish.
    drain: CancellationToken,
    spawner: mpsc::Sender<Job>,
}

type Job = (Command, oneshot::Sender<io::Result<Child>>);

impl Launcher {
    /// Creates a launcher of workers, which run `program worker`. See [`crate::backend::Backend::local`].
    ///
    /// # Errors
    /// Returns an error if the system cannot start a thread.
    pub(in crate::backend) fn new(
        program: PathBuf,
        log_level: String,
        drain: CancellationToken,
    ) -> Result<Self, SystemLimit> {
        let (spawner, jobs) = mpsc::channel::<Job>();
        let runtime = tokio::runtime::Handle::current();
        threads::start("spawner", move || {
            let _runtime = runtime.enter();
            for (mut command, reply) in jobs {
                // If the receiver is gone, the worker is dropped, which kills it.
                drop(reply.send(command.spawn()));
            }
        })?;
        Ok(Self {
            program,
            log_level,
            stall_timeout: Arc::default(),
            driver_caches: Arc::default(),
            cpu_turns: CpuTurns::default(),
            drain,
            spawner,
        })
    }

    /// Returns whether the server is shutting down.
    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Sets how long a worker that has work may go without finishing a step before it is killed. `None`, the initial value, means no limit.
    /// Also applies to running workers.
    pub(in crate::backend) fn set_stall_timeout(&self, limit: Option<Duration>) {
        *self.lock_stall_timeout() = limit;
    }

    /// Returns the limit of [`Self::set_stall_timeout`].
    pub(super) fn stall_timeout(&self) -> Option<Duration> {
        *self.lock_stall_timeout()
    }

    fn lock_stall_timeout(&self) -> MutexGuard<'_, Option<Duration>> {
        let limit = self.stall_timeout.lock();
        limit.unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates the lock files of CPU turns for models that compute with at most `n_threads` each. Blocks on the file system.
    pub(in crate::backend) fn share_cpus(&self, n_threads: usize) {
        self.cpu_turns.share(n_threads);
    }

    /// Removes the lock files of CPU turns. Called at the end of the server, since a clone of the launcher may outlive the runtime.
    pub(in crate::backend) async fn close(&self) {
        let turns = self.cpu_turns.clone();
        drop(spawn_blocking(move || turns.remove()).await);
    }

    /// Returns the locks of CPU turns for a worker that computes on the CPUs; `None` if there are none.
    pub(super) async fn cpu_locks(&self) -> Option<CpuLocks> {
        let turns = self.cpu_turns.clone();
        spawn_blocking(move || turns.locks()).await.ok()?
    }

    /// Returns the directory in which GPU drivers may cache shaders for a worker with these settings; `None` if they use their own.
    pub(super) async fn driver_cache(&self, settings: LoadSettings) -> Option<PathBuf> {
        let caches = Arc::clone(&self.driver_caches);
        let find = move || caches.directory_for(&settings);
        spawn_blocking(find).await.ok()?
    }

    /// Starts a worker for `launch`. Its stderr is logged under `name`.
    pub(super) async fn spawn(
        &self,
        name: &str,
        launch: &Launch,
    ) -> io::Result<(Process, ChildStdout)> {
        let mut command = Command::new(&self.program);
        #[cfg(unix)]
        // The worker has its own process group, so that Ctrl-C in a terminal reaches only the server, which drains its calls.
        command.arg0("llama-mcp-server").process_group(0);
        command
            .args([worker::WORKER, "--parent", &std::process::id().to_string()])
            // A single argument, since the name may begin with `-`.
            .arg(format!("--name={name}"))
            .env_clear()
            .envs(passed_on())
            .envs(
                launch
                    .grant
                    .driver_cache
                    .iter()
                    .flat_map(|path| driver_cache::variables(path)),
            )
            // Keeps llama.cpp from starting a debugger on an abort. The debugger would write to the pipe of the events.
            .env("GGML_NO_BACKTRACE", "1")
            .envs(telemetry::worker_level(&self.log_level))
            .envs(trim_threshold())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for (name, value) in spin_variables(&launch.planned_settings()).await {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let (reply, child) = oneshot::channel();
        self.spawner
            .send((command, reply))
            .map_err(io::Error::other)?;
        let mut child = child.await.map_err(io::Error::other)??;
        let piped = || io::Error::other("a pipe of the worker is missing");
        let stdin = child.stdin.take().ok_or_else(piped)?;
        let stdout = child.stdout.take().ok_or_else(piped)?;
        let stderr = child.stderr.take().ok_or_else(piped)?;
        let process = Process {
            id: child.id().unwrap_or_default(),
            child,
            commands: CommandPipe::new(stdin),
            stderr: tokio::spawn(drain(name.to_owned(), stderr)),
            #[cfg(unix)]
            children_end: signal(SignalKind::child())?,
        };
        Ok((process, stdout))
    }
}

/// Returns the environment variables that limit how long the threads of a worker spin before they sleep, see [`Spin::variables`]. The first
/// call measures the machine, if it must.
async fn spin_variables(settings: &LoadSettings) -> Vec<(&'static str, Option<String>)> {
    let key = settings.spin_count;
    let n_threads = settings.n_threads;
    let is_on_gpu = settings.n_gpu_layers.is_any() && gpu::BACKEND.is_some();
    let choose = move || {
        let waits = Waits {
            n_threads,
            is_on_gpu,
            quota: cpu_quota(),
        };
        Spin::choose(key, waits).variables()
    };
    spawn_blocking(choose).await.unwrap_or_default()
}

/// Returns the environment variable that makes glibc return free memory above 1 MiB to the system; `None` if the user has set one. By default
/// glibc keeps as much as the largest block that was freed: 13 MiB after the load of `SmolLM2` 135M. The speed is the same.
///
/// Huge pages of glibc are not enabled. They make a load with 720 MiB of cache 0.2 s faster, or 1 s slower if the kernel must search for
/// them. They do not make decoding faster.
fn trim_threshold() -> Option<(&'static str, &'static str)> {
    let is_set = ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    (!is_set).then_some(("MALLOC_TRIM_THRESHOLD_", "1048576"))
}

/// A started worker. Dropping it kills it, and with it every process of its group.
#[derive(Debug)]
pub(super) struct Process {
    id: u32,
    child: Child,
    commands: CommandPipe,
    stderr: JoinHandle<CrashLines>,
    #[cfg(unix)]
    children_end: Signal,
}

impl Process {
    /// Returns the process id, even after the process has ended.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Returns the work of the threads that load the model and decode; `None` if it is unknown.
    pub(super) fn activity(&self) -> Option<Activity> {
        activity_of(self.child.id()?, &HELPER_THREADS)
    }

    /// Returns the CPU time and memory that the process has used; `None` if they are unknown.
    pub(super) fn usage(&self) -> Option<Usage> {
        usage_of(self.child.id()?)
    }

    /// Sends a command without waiting. Commands to a worker that has ended are lost.
    pub(super) fn send(&mut self, command: &worker::Command) {
        let mut line = serde_json::to_vec(command).expect("a command has only string keys");
        line.push(b'\n');
        self.commands.send(line);
    }

    /// Returns whether the worker does not read its commands, although one of its threads only reads them.
    pub(super) fn ignores_commands(&mut self) -> bool {
        self.commands.is_ignored()
    }

    /// Waits until the process has ended, even if another process holds its pipes. Cancel safe.
    #[cfg(unix)]
    pub(super) async fn ended(&mut self) {
        // The process is not reaped here, so that its id, which is also the id of its group, is not reused.
        while self.child.id().is_some_and(crate::process::is_running) {
            self.children_end.recv().await;
        }
    }

    /// Waits until the process has ended. Cancel safe.
    #[cfg(not(unix))]
    pub(super) async fn ended(&mut self) {
        self.child.wait().await.ok();
    }

    /// Kills the process and every process of its group. Does nothing once the process is reaped.
    pub(super) fn kill(&mut self) {
        if let Some(id) = self.child.id() {
            crate::process::kill_group(id);
            // A process can leave its group.
            self.child.start_kill().ok();
        }
    }

    /// Shuts the worker down, and kills it after a grace period. Returns after [`END_LIMIT`] and [`KILL_LIMIT`] at the latest.
    pub(super) async fn end(&mut self) {
        self.send(&worker::Command::Shutdown);
        // `reap` kills a worker that has not ended by then.
        tokio::time::timeout(END_LIMIT, self.ended()).await.ok();
        if let Err(error) = self.reap().await {
            tracing::error!(%error, "a model's process cannot be ended");
        }
    }

    /// Returns why a worker ended by itself: its exit status, and the last lines of its log. Kills a worker that has only closed its output.
    pub(super) async fn reason(&mut self) -> String {
        let has_ended = tokio::time::timeout(END_LIMIT, self.ended()).await.is_ok();
        let status = match self.reap().await {
            Ok(status) if has_ended => describe(status),
            Ok(_) => "it closed its output".to_owned(),
            Err(error) => error.to_string(),
        };
        let crash_lines = tokio::time::timeout(END_LIMIT, &mut self.stderr).await;
        match crash_lines {
            Ok(Ok(crash_lines)) => match crash_lines.text() {
                Some(text) => format!("{status}; last output: {text}"),
                None => status,
            },
            _ => status,
        }
    }

    /// Kills the rest of the process group, and returns the exit status of the process.
    ///
    /// # Errors
    /// Returns an error if the process does not exit within [`KILL_LIMIT`]: a signal cannot end a process that is blocked in the kernel, for
    /// example by a hanging drive.
    async fn reap(&mut self) -> io::Result<ExitStatus> {
        self.kill();
        let status = tokio::time::timeout(KILL_LIMIT, self.child.wait()).await;
        status.unwrap_or_else(|_elapsed| {
            Err(io::Error::other(format!(
                "process {} was killed but has not exited, so its memory is still in use; a drive or a GPU driver may hang",
                self.id
            )))
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns how a process ended, with the probable cause.
fn describe(status: ExitStatus) -> String {
    // Parts of a mapped file are read from disk while the model computes.
    #[cfg(unix)]
    if status.signal() == Some(signal_hook::consts::SIGBUS) {
        return format!(
            "{status}: part of the model's file could not be read: the file was truncated while it was in use, or its disk is failing"
        );
    }
    #[cfg(unix)]
    if status.signal() == Some(signal_hook::consts::SIGKILL) {
        return format!("{status}: the system was probably out of memory");
    }
    status.to_string()
}

/// Logs the stderr of a worker until it ends, so that the worker never blocks on it. Returns the last lines that may explain a crash.
async fn drain(name: String, stderr: ChildStderr) -> CrashLines {
    let mut crash_lines = CrashLines::default();
    let mut log = ModelLog::new(name);
    let mut lines = Lines::new(BufReader::new(stderr), model_log::MAX_LINE);
    while let Some(line) = lines.next().await {
        log.relay(&line);
        crash_lines.push(&line.text);
    }
    crash_lines
}
