//! Tests of the registry with scripted models: which model is loaded, which calls wait, and how calls end.

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use super::*;
use crate::backend::scripted::{Script, ScriptedModel};
use crate::backend::{CallStage, Mail, ProcessFailure};
use crate::config::{Config, Overrides, Surroundings};
use crate::engine::{CancelReason, Conversation, Message, Role, SamplingParams, ThinkingOutput};
use crate::process::Cpus;

/// A registry of the models `a` and `b`, only one of which may be loaded at a time, and the models that it starts.
struct World {
    registry: Arc<Registry>,
    editions: Vec<Edition>,
    started: UnboundedReceiver<ScriptedModel>,
}

const A: usize = 0;
const B: usize = 1;

/// Returns a configuration of `models`, only one of which may be loaded at a time.
pub(super) fn config(models: &[&str]) -> Config {
    let path = "tests/models/tiny-crab-chat.Q8_0.gguf";
    let paths = models
        .iter()
        .map(|name| format!("models.{name}.path={path}"));
    let overrides = Overrides {
        set: paths.chain(["registry.max_loaded=1".to_owned()]).collect(),
        ..Overrides::default()
    };
    let surroundings = Surroundings {
        program: None,
        cpus: Cpus::single(1),
        variables: BTreeMap::new(),
        folders: Vec::new(),
    };
    Config::load(&overrides, &surroundings).unwrap().0
}

fn world() -> World {
    let config = config(&["a", "b"]);
    let (script, started) = Script::new();
    let registry = Registry::new(Backend::Scripted(script));
    let editions = registry.stage(&config.models, &BTreeMap::new(), &config.registry);
    World {
        registry: Arc::new(registry),
        editions,
        started,
    }
}

pub(super) fn request(text: &str) -> GenerateRequest {
    GenerateRequest {
        conversation: Conversation {
            messages: vec![Message::new(Role::User, text)],
            thinking: ThinkingOutput::Strip,
            json_schema: None,
            thinking_budget: None,
            template_arguments: serde_json::Map::new(),
        },
        max_tokens: 10,
        sampling: SamplingParams::default(),
        stop: Vec::new(),
    }
}

pub(super) fn context() -> CallContext {
    CallContext {
        client: "test".into(),
        deadline: None,
        progress: watch::Sender::default(),
    }
}

impl World {
    /// Calls a model, and returns the text of its answer.
    fn call(&self, model: usize) -> JoinHandle<Result<String, RegistryError>> {
        let (registry, edition) = (Arc::clone(&self.registry), self.editions[model]);
        tokio::spawn(async move {
            let context = context();
            let generation = registry.generate(edition, request("Hi"), &context);
            Ok(generation.await?.text)
        })
    }

    /// Returns the next model that the registry starts.
    async fn started(&mut self) -> ScriptedModel {
        self.started.recv().await.unwrap()
    }
}

#[tokio::test]
async fn a_call_starts_its_model_and_the_next_lease_finds_it_loaded() {
    let mut world = world();
    let first = world.call(A);
    let mut model = world.started().await;
    model.load();
    model.call().await.answer("one");
    assert_eq!(first.await.unwrap().unwrap(), "one");
    let second = world.call(A);
    model.call().await.answer("two");
    assert_eq!(second.await.unwrap().unwrap(), "two");
    assert!(world.started.is_empty(), "a second process was started");
}

#[tokio::test]
async fn an_idle_model_is_evicted_for_another_and_a_busy_one_is_not() {
    let mut world = world();
    let first = world.call(A);
    let mut a = world.started().await;
    a.load();
    let held = a.call().await;
    let second = world.call(B);
    held.answer("a");
    assert_eq!(first.await.unwrap().unwrap(), "a");
    let reason = a.unload().await;
    assert_eq!(reason.name(), "evicted");
    let mut b = world.started().await;
    assert_eq!(b.name, "b");
    b.load();
    b.call().await.answer("b");
    assert_eq!(second.await.unwrap().unwrap(), "b");
}

#[tokio::test]
async fn a_call_that_had_not_begun_is_sent_to_the_next_process_of_its_model() {
    let mut world = world();
    let call = world.call(A);
    let mut model = world.started().await;
    model.load();
    // The call is queued in the process that dies.
    drop(model.call().await);
    model.die("a fault");
    let mut next = world.started().await;
    next.load();
    next.call().await.answer("again");
    assert_eq!(call.await.unwrap().unwrap(), "again");
}

#[tokio::test(start_paused = true)]
async fn the_queue_time_of_a_retried_call_includes_its_wait_for_the_first_process() {
    const WAIT: Duration = Duration::from_secs(10);
    let mut world = world();
    let (registry, edition) = (Arc::clone(&world.registry), world.editions[A]);
    let call = tokio::spawn(async move {
        let context = context();
        registry.generate(edition, request("Hi"), &context).await
    });
    let mut model = world.started().await;
    model.load();
    let queued = model.call().await;
    tokio::time::sleep(WAIT).await;
    drop(queued);
    model.die("a fault");
    let mut next = world.started().await;
    next.load();
    next.call().await.answer("again");
    let queue_ms = call.await.unwrap().unwrap().usage.queue_ms;
    assert!(u128::from(queue_ms) >= WAIT.as_millis(), "{queue_ms}");
}

#[tokio::test]
async fn a_call_that_had_begun_ends_with_the_error_of_its_process() {
    let mut world = world();
    let call = world.call(A);
    let mut model = world.started().await;
    model.load();
    let died = CallError::Process {
        failure: ProcessFailure::Died("a fault".into()),
        stage: CallStage::BegunFirst,
    };
    model.call().await.fail(died.clone());
    model.die("a fault");
    assert_eq!(call.await.unwrap().unwrap_err(), RegistryError::Call(died));
}

#[tokio::test]
async fn a_dropped_call_is_cancelled() {
    let mut world = world();
    let call = world.call(A);
    let mut model = world.started().await;
    model.load();
    let held = model.call().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    let mail = model.mail().await;
    let is_cancel =
        matches!(mail, Some(Mail::Cancel { id, reason: CancelReason::Cancelled }) if id == held.id);
    assert!(is_cancel, "{mail:?}");
}
