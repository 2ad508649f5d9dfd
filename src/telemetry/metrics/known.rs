//! Creation of the series whose labels are known in advance.

use std::hash::Hash;

use prometheus_client::metrics::family::{Family, MetricConstructor};
use strum::IntoEnumIterator as _;

use super::meters::{
    CallLabels, LoadLabels, Meters, ModelLabels, RefusalLabels, ReloadLabels, TokenLabels,
    ToolLabels, UnloadLabels,
};
use super::{Outcome, UnloadReason, of};
use crate::error_code::ErrorCode;

/// Names of the configuration that are values of labels.
#[derive(Debug, Default)]
pub(crate) struct Names<'config> {
    /// Names of models.
    pub models: Vec<&'config str>,
    /// Names of tools, each with the model that answers its calls.
    pub tools: Vec<(&'config str, &'config str)>,
    /// Names of tokens.
    pub tokens: Vec<&'config str>,
}

/// All statuses with which the transport refuses requests.
const REFUSALS: [u32; 12] = [400, 401, 403, 404, 405, 406, 408, 413, 415, 429, 501, 503];

/// Creates the series of `labels` if it does not exist.
fn create<L, M, C>(family: &Family<L, M, C>, labels: &L)
where
    L: Clone + Hash + Eq,
    C: MetricConstructor<M>,
{
    drop(family.get_or_create(labels));
}

impl Meters {
    /// Creates the series whose labels do not depend on the configuration.
    pub(super) fn create_fixed_series(&self) {
        for outcome in ["ok", "refused"] {
            create(&self.server.reloads, &ReloadLabels { outcome });
        }
        for status in REFUSALS {
            create(&self.server.http_refusals, &RefusalLabels { status });
        }
    }

    /// Creates the series of `names`.
    pub(super) fn create_series(&self, names: &Names<'_>) {
        for model in &names.models {
            self.create_model_series(model);
        }
        for (tool, model) in &names.tools {
            self.create_tool_series(tool, model);
        }
        for token in &names.tokens {
            for outcome in Outcome::iter().map(Outcome::name) {
                let token = (*token).to_owned();
                create(&self.calls.by_token, &TokenLabels { token, outcome });
            }
        }
    }

    fn create_model_series(&self, name: &str) {
        let model = of(name);
        let counters = [
            &self.calls.prompt_tokens,
            &self.calls.cached_tokens,
            &self.calls.completion_tokens,
            &self.calls.forced_tokens,
            &self.calls.drafted_tokens,
            &self.calls.accepted_tokens,
            &self.models.deaths,
            &self.models.stalls,
        ];
        for counter in counters {
            create(counter, &model);
        }
        create(&self.models.cpu_time, &model);
        for outcome in ["ok", "failed"] {
            let ModelLabels { model } = model.clone();
            create(&self.models.loads, &LoadLabels { model, outcome });
        }
        for reason in UnloadReason::iter().map(UnloadReason::name) {
            let ModelLabels { model } = model.clone();
            create(&self.models.unloads, &UnloadLabels { model, reason });
        }
        let gauges = [
            &self.calls.running,
            &self.calls.waiting,
            &self.models.cells,
            &self.models.reserved_cells,
            &self.models.last_step,
            &self.models.loaded,
            &self.models.memory,
            &self.models.resident,
            &self.models.threads,
        ];
        for gauge in gauges {
            create(gauge, &model);
        }
        let histograms = [
            &self.calls.queue_time,
            &self.calls.first_token_time,
            &self.calls.prompt_speed,
            &self.calls.generation_speed,
            &self.models.load_time,
        ];
        for histogram in histograms {
            create(histogram, &model);
        }
    }

    fn create_tool_series(&self, tool: &str, model: &str) {
        let (tool, model) = (tool.to_owned(), model.to_owned());
        let errors = ErrorCode::iter().filter(|code| code.ends_calls());
        let errors = errors.map(|code| (Outcome::Error, code.name()));
        let others = Outcome::iter().filter(|outcome| *outcome != Outcome::Error);
        for (outcome, code) in others.map(|outcome| (outcome, "")).chain(errors) {
            let ended = CallLabels {
                tool: tool.clone(),
                model: model.clone(),
                outcome: outcome.name(),
                code,
            };
            create(&self.calls.ended, &ended);
        }
        create(&self.calls.duration, &ToolLabels { tool, model });
    }
}
