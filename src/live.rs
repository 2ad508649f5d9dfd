//! The running parts of the server, as the active configuration describes them.

use std::sync::Arc;

use tokio::sync::watch;

use crate::backend::Backend;
use crate::config::http::HttpConfig;
use crate::config::{Config, Transport};
use crate::mcp::dispatcher::Dispatcher;
use crate::registry::{Edition, Registry};
use crate::status::ToolStatus;
use crate::telemetry::metrics;
use crate::tools::Catalog;
use crate::tools::shared_prefix::shared_prefixes;

/// The running parts of the server.
#[derive(Debug)]
pub(crate) struct Live {
    registry: Arc<Registry>,
    dispatcher: Arc<Dispatcher>,
    /// The tools, for `status`.
    tools: watch::Sender<Vec<ToolStatus>>,
    /// Models that were loaded without a call.
    preloaded: Vec<Edition>,
    /// Rules for requests over HTTP; `None` over stdio.
    rules: Option<watch::Sender<Arc<HttpConfig>>>,
}

impl Live {
    /// Starts the parts that `config` describes, with models in `backend`, and begins to load the models with `preload`.
    /// `rules` are the rules for requests over HTTP, which follow edits; `None` over stdio.
    pub(crate) fn start(
        config: &Config,
        backend: Backend,
        rules: Option<watch::Sender<Arc<HttpConfig>>>,
    ) -> Self {
        let mut live = Self {
            registry: Arc::new(Registry::new(backend)),
            dispatcher: Arc::new(Dispatcher::new(Catalog::default())),
            tools: watch::Sender::default(),
            preloaded: Vec::new(),
            rules,
        };
        live.apply(config);
        live
    }

    /// Returns the registry of the models.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    /// Returns the dispatcher of messages.
    pub(crate) fn dispatcher(&self) -> Arc<Dispatcher> {
        Arc::clone(&self.dispatcher)
    }

    /// Returns the configured tools, and follows edits of them.
    pub(crate) fn tools(&self) -> watch::Receiver<Vec<ToolStatus>> {
        self.tools.subscribe()
    }

    /// Makes `config` the active configuration. Parts that it does not change keep running; parts that it changes or removes finish their
    /// calls.
    pub(crate) fn apply(&mut self, config: &Config) {
        // Before models are staged, so that revoked tokens are refused from here on.
        self.set_rules(&config.transport);
        let prefixes = shared_prefixes(config);
        let registry = &self.registry;
        // A model that was unloaded on request stays unloaded.
        for edition in &mut self.preloaded {
            *edition = registry.current(*edition);
        }
        let editions = registry.stage(&config.models, &prefixes, &config.registry);
        let catalog = Catalog::new(config, &editions, &self.registry);
        self.show(config, &catalog);
        // Before the former models take no more calls: a call that they refuse finds the new catalog.
        self.dispatcher.replace(catalog);
        self.registry.retire_all_but(&editions);
        let models = config.models.iter().zip(editions);
        let preloaded: Vec<_> = models.filter(|(model, _)| model.preload).collect();
        for (model, edition) in &preloaded {
            if !self.preloaded.contains(edition) {
                self.registry.preload(&model.name, *edition);
            }
        }
        self.preloaded = preloaded.into_iter().map(|(_, edition)| edition).collect();
    }

    /// Publishes the tools of `catalog` for `status`, and creates the metrics of all names.
    fn show(&self, config: &Config, catalog: &Catalog) {
        let tools = catalog.with_models();
        let shown = tools.iter().map(|(name, model)| ToolStatus {
            name: (*name).to_owned(),
            model: (*model).to_owned(),
        });
        self.tools.send_replace(shown.collect());
        let tokens = match &config.transport {
            Transport::Http(http) => &http.tokens[..],
            Transport::Stdio => &[],
        };
        metrics::create_series(&metrics::Names {
            models: config.models.iter().map(|model| &*model.name).collect(),
            tools,
            tokens: tokens.iter().map(|token| &*token.name).collect(),
        });
    }

    /// Applies the rules of `transport`, which is the active one. Announces a change of tools if tokens have changed, since each token may
    /// have its own tools.
    pub(crate) fn set_rules(&self, transport: &Transport) {
        if let (Some(rules), Transport::Http(new)) = (&self.rules, transport) {
            let old = rules.send_replace(Arc::new((**new).clone()));
            if old.tokens != new.tokens {
                self.dispatcher.announce();
            }
        }
    }
}
