use super::tests::{config, context, request};
use super::*;
use crate::backend::scripted::Script;

#[tokio::test]
async fn a_call_loads_its_model_and_returns_its_answer() {
    let (script, mut started) = Script::new();
    let registry = Registry::new(Backend::Scripted(script));

    // Stage the configured models. Nothing is loaded yet.
    let config = config(&["a"]);
    let editions = registry.stage(&config.models, &BTreeMap::new(), &config.registry);

    // The model's process, played by the test.
    let model = async {
        let mut model = started.recv().await.unwrap();
        model.load();
        model.call().await.answer("Hello!");
        model
    };

    // The first call starts the model. Later calls find it loaded.
    let context = context();
    let call = registry.generate(editions[0], request("Hi"), &context);
    let (generation, _model) = tokio::join!(call, model);
    assert_eq!(generation.unwrap().text, "Hello!");
    assert_eq!(registry.observe().await[0].state, ModelState::Loaded);
}
