//! Reports problems, each once and with the place where the value was set.

use super::Layers;
use crate::config::address::Address;
use crate::config::problem::{Origin, Problem};
use crate::config::validate::Fault;
use crate::config::warning::WarningKind;
use crate::error_code::ErrorCode;

impl Layers {
    /// Adds an error about the value at `address` that `origin` sets. Without `address`, the error is about `origin` itself.
    pub(super) fn add_error(
        &mut self,
        origin: Origin,
        address: Option<&Address>,
        message: String,
        hint: Option<String>,
    ) {
        self.add_problem(Problem::error(origin, address, None, message, hint));
    }

    /// Adds the error for a value or a key that violates the schema of the configuration.
    pub(super) fn refuse(&mut self, origin: &Origin, fault: &Fault) {
        let address = &fault.address;
        self.refused.push(address.clone());
        // An interpolated value may be a secret, and a hint may repeat it.
        let is_hidden = self.schema.is_secret(address) || self.written.contains_key(address);
        let message = fault.message(is_hidden);
        let hint = fault.hint.clone();
        let origin = origin.clone();
        self.add_problem(if fault.is_key {
            Problem::of_key(origin, address, message, hint)
        } else {
            let hint = hint.filter(|_| !is_hidden);
            let code = Some(ErrorCode::ConfigValue);
            Problem::error(origin, Some(address), code, message, hint)
        });
    }

    fn add_problem(&mut self, problem: Problem) {
        let problem = self.unreported(problem);
        self.problems.extend(problem);
    }

    /// Returns `problem`, marked as secret if it is about a secret. Returns `None` if it was reported before.
    fn unreported(&self, mut problem: Problem) -> Option<Problem> {
        let address = problem.address.as_ref();
        problem.is_secret = address.is_some_and(|address| self.schema.is_secret(address));
        // A value of `[defaults]` is checked once for each model.
        let is_known = self.problems.contains(&problem) || self.tolerated_faults.contains(&problem);
        (!is_known).then_some(problem)
    }

    /// Adds an error about the value at `address`, located where the value is set. If no layer sets it, the error is located at the table
    /// in which it is missing. A value that was refused before gets no further error.
    pub(crate) fn problem_at(&mut self, address: &Address, message: String, hint: Option<String>) {
        let problem = self.problem_for(None, address, message, hint);
        self.problems.extend(problem);
    }

    /// Adds an error about a value that is out of its range, located like [`Self::problem_at`].
    pub(crate) fn range_problem_at(
        &mut self,
        address: &Address,
        message: String,
        hint: Option<String>,
    ) {
        let problem = self.problem_for(Some(ErrorCode::ConfigValue), address, message, hint);
        self.problems.extend(problem);
    }

    /// Returns the error about the value at `address`, located as [`Self::problem_at`] says. Returns `None` if the value was refused, or the
    /// error was reported before.
    fn problem_for(
        &self,
        code: Option<ErrorCode>,
        address: &Address,
        message: String,
        hint: Option<String>,
    ) -> Option<Problem> {
        if self.is_refused(address) {
            return None;
        }
        let (origin, at) = self.location(address);
        self.unreported(Problem::error(origin, Some(&at), code, message, hint))
    }

    /// Adds a tolerated fault of the value at `address`, located like [`Self::problem_at`].
    pub(crate) fn tolerate_at(&mut self, address: &Address, message: String, hint: Option<String>) {
        let fault = self.problem_for(None, address, message, hint);
        self.tolerated_faults.extend(fault);
    }

    /// Adds an error about a schema at `address`. If the schema is written as a table, the error is located at the part that the JSON
    /// pointer `pointer` names, such as `#/properties/a`.
    pub(crate) fn schema_problem_at(&mut self, address: &Address, pointer: &str, message: String) {
        let mut problem = self.problem_for(None, address, message, None);
        if let Some(problem) = &mut problem {
            locate(problem, pointer);
        }
        self.problems.extend(problem);
    }

    /// Adds a warning about the value at `address`, located like [`Self::problem_at`].
    pub(crate) fn warn_at(
        &mut self,
        kind: WarningKind,
        address: &Address,
        message: String,
        hint: &str,
    ) {
        // A refused value was left out, so the warning would be about the built-in default.
        if !self.is_refused(address) {
            let (origin, at) = self.location(address);
            self.warn(Problem::warning(origin, Some(&at), kind, message, hint));
        }
    }

    /// Adds a warning about a schema, located like [`Self::schema_problem_at`].
    pub(crate) fn schema_warning_at(&mut self, address: &Address, pointer: &str, message: String) {
        let (origin, at) = self.location(address);
        let hint = "remove it, or use keywords that are enforced";
        let kind = WarningKind::SchemaNotEnforced;
        let mut warning = Problem::warning(origin, Some(&at), kind, message, hint);
        locate(&mut warning, pointer);
        self.warn(warning);
    }

    /// Adds a warning, once. A value that all models share gets one warning of each kind, even if the numbers in it differ by model.
    pub(crate) fn warn(&mut self, mut warning: Problem) {
        let address = warning.address.as_ref();
        warning.is_secret = address.is_some_and(|address| self.schema.is_secret(address));
        let table = address.and_then(|address| address.parts().first());
        let is_shared = table.is_some_and(|table| table == "defaults" || table == "registry");
        let is_known = self.warnings.iter().any(|known| {
            let is_same_place = known.origin == warning.origin && known.address == warning.address;
            *known == warning || (is_shared && is_same_place && known.code == warning.code)
        });
        if !is_known {
            self.warnings.push(warning);
        }
    }

    /// Returns the place where the value at `address` is set. If no layer sets it, returns the place of the table in which it is missing.
    fn location(&self, address: &Address) -> (Origin, Address) {
        let (origin, at) = self.origin_of(address);
        let table = || {
            let origin = self.highest_origin(&address.parent()?)?;
            Some((origin, address.clone()))
        };
        match origin {
            Origin::BuiltIn => table().unwrap_or((origin, at)),
            _ => (origin, at),
        }
    }

    /// Returns whether the value at `address`, or a table around it, was left out because it is wrong, and no other layer sets it.
    pub(crate) fn is_refused(&self, address: &Address) -> bool {
        let in_defaults = address.in_defaults();
        let addresses = || [Some(address), in_defaults.as_ref()].into_iter().flatten();
        let is_left_out = |address: &Address| {
            let mut refused = self.refused.iter();
            refused.any(|refused| address.parts().starts_with(refused.parts()))
        };
        addresses().any(is_left_out)
            && addresses().all(|address| self.highest_origin(address).is_none())
    }

    /// Returns whether there is an error about the value at `address` or a part of it, in the table of a model or in `[defaults]`.
    pub(crate) fn has_problem_at(&self, address: &Address) -> bool {
        let in_defaults = address.in_defaults();
        let concerns = |wrong: &Address| {
            let mut addresses = [Some(address), in_defaults.as_ref()].into_iter().flatten();
            addresses.any(|address| wrong.parts().starts_with(address.parts()))
        };
        let mut wrong = self
            .problems
            .iter()
            .filter_map(|problem| problem.address.as_ref());
        wrong.any(concerns)
    }

    /// Returns whether a file, a variable or a flag sets the value at `address`, or that key of `[defaults]`.
    pub(crate) fn is_set(&self, address: &Address) -> bool {
        let in_defaults = address.in_defaults();
        let mut addresses = [Some(address), in_defaults.as_ref()].into_iter().flatten();
        addresses.any(|address| self.highest_origin(address).is_some())
    }

    /// Returns the names in the table at `address` whose values were left out, because they are wrong.
    pub(crate) fn refused_names<'a>(
        &'a self,
        address: &'a Address,
    ) -> impl Iterator<Item = &'a str> {
        let names = self.refused.iter().filter_map(|refused| {
            let rest = refused.parts().strip_prefix(address.parts())?;
            rest.first().map(String::as_str)
        });
        names.filter(|name| self.is_refused(&address.join(*name)))
    }
}

/// Moves `problem` from its schema to the part that `pointer` names, if the file has that part as a table.
fn locate(problem: &mut Problem, pointer: &str) {
    let (Origin::File(source), Some(schema)) = (&problem.origin, &problem.address) else {
        return;
    };
    let parts = pointer.split('/').skip(1);
    let part = parts.fold(schema.clone(), |address, part| {
        address.join(part.replace("~1", "/").replace("~0", "~"))
    });
    if schema
        .get(&source.tree)
        .is_some_and(|schema| !schema.is_string())
        && let Some(place) = source.place_of(&part)
    {
        problem.place = Some(place);
    }
}
