//! Reads which modules of the sources import which others. Paths are found in the tokens, without expanding macros.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

use crate::support::example::repository;

/// Path of a module, or the segments of a path in its source.
pub(super) type Segments = Vec<String>;

/// A source file below `src`.
pub(super) struct Source {
    pub(super) module: Segments,
    pub(super) text: String,
    pub(super) tokens: Vec<TokenTree>,
}

impl Source {
    pub(super) fn name(&self) -> String {
        self.module.join("/")
    }

    pub(super) fn is_test(&self) -> bool {
        self.module.iter().any(|part| part == "tests")
    }
}

pub(super) fn sources() -> Vec<Source> {
    fn walk(folder: &Path, module: &Segments, found: &mut Vec<Source>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let mut module = module.clone();
            module.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
            if path.is_dir() {
                walk(&path, &module, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let tokens = text.parse::<TokenStream>().unwrap().into_iter().collect();
                found.push(Source {
                    module,
                    text,
                    tokens,
                });
            }
        }
    }
    let mut found = Vec::new();
    walk(&repository("src"), &Vec::new(), &mut found);
    found
}

/// Returns whether `tokens` start with `::`.
pub(super) fn is_path_separator(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [TokenTree::Punct(one), TokenTree::Punct(other), ..]
        if one.as_char() == ':' && one.spacing() == Spacing::Joint && other.as_char() == ':')
}

/// Adds the paths in `tokens`, each with `prefix` in front, to `found`: `a::{b, c::d}` is `a::b` and `a::c::d`.
pub(super) fn collect_paths(
    mut tokens: &[TokenTree],
    prefix: &[String],
    found: &mut Vec<Segments>,
) {
    while let [first, rest @ ..] = tokens {
        tokens = rest;
        match first {
            TokenTree::Group(group) => {
                let inner: Vec<_> = group.stream().into_iter().collect();
                collect_paths(&inner, prefix, found);
            }
            TokenTree::Ident(ident) => {
                let mut path = [prefix, &[ident.to_string()]].concat();
                while is_path_separator(tokens) {
                    tokens = &tokens[2..];
                    match tokens {
                        [TokenTree::Ident(ident), rest @ ..] => {
                            path.push(ident.to_string());
                            tokens = rest;
                        }
                        [TokenTree::Group(group), rest @ ..]
                            if group.delimiter() == Delimiter::Brace =>
                        {
                            let inner: Vec<_> = group.stream().into_iter().collect();
                            collect_paths(&inner, &path, found);
                            tokens = rest;
                        }
                        [other, ..] => path.push(other.to_string()),
                        [] => {}
                    }
                }
                found.push(path);
            }
            _ => {}
        }
    }
}

pub(super) fn paths(tokens: &[TokenTree]) -> Vec<Segments> {
    let mut found = Vec::new();
    collect_paths(tokens, &[], &mut found);
    found
}

/// Splits `tokens` roughly into items: each ends with a semicolon or braces.
pub(super) fn items(tokens: &[TokenTree]) -> impl Iterator<Item = &[TokenTree]> {
    tokens.split_inclusive(|token| match token {
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    })
}

/// Returns whether `item` is compiled for tests only.
pub(super) fn is_for_tests(item: &[TokenTree]) -> bool {
    item.iter().any(|token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
            let attribute = group.to_string().replace(' ', "");
            attribute.starts_with("[cfg(test)") || attribute.starts_with("[cfg(all(test,")
        }
        _ => false,
    })
}

/// Returns the paths that `item` reexports: `pub use a::{b, c}` gives `a::b` and `a::c`.
pub(super) fn exports(item: &[TokenTree]) -> Vec<Segments> {
    let is =
        |token: &TokenTree, word: &str| matches!(token, TokenTree::Ident(ident) if ident == word);
    let from = item.iter().position(|token| is(token, "use"));
    match from {
        Some(at) if item[..at].iter().any(|token| is(token, "pub")) => paths(&item[at + 1..]),
        _ => Vec::new(),
    }
}

/// All source files and their reexports.
pub(super) struct Crate {
    pub(super) sources: Vec<Source>,
    pub(super) modules: BTreeSet<Segments>,
    /// Module and name → original path, as the module writes it.
    pub(super) exports: HashMap<(Segments, String), Segments>,
}

impl Crate {
    pub(super) fn read() -> Self {
        let sources = sources();
        let mut all = HashMap::new();
        for source in &sources {
            for path in items(&source.tokens).flat_map(exports) {
                let name = path.last().unwrap().clone();
                all.insert((source.module.clone(), name), path);
            }
        }
        Self {
            modules: sources.iter().map(|source| source.module.clone()).collect(),
            exports: all,
            sources,
        }
    }

    /// Returns the module that `path`, seen from the module `at`, begins with, and the rest of the path. Returns `None` for a path outside
    /// this crate.
    pub(super) fn resolve(&self, at: &[String], path: &[String]) -> Option<(Segments, Segments)> {
        let ups = path.iter().take_while(|part| *part == "super").count();
        let (mut module, mut rest) = match path[0].as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (at.to_vec(), &path[1..]),
            "super" => (at[..at.len().checked_sub(ups)?].to_vec(), &path[ups..]),
            _ => (at.to_vec(), path),
        };
        while let [first, behind @ ..] = rest {
            let inner = [module.as_slice(), std::slice::from_ref(first)].concat();
            if !self.modules.contains(&inner) {
                break;
            }
            (module, rest) = (inner, behind);
        }
        let is_foreign = rest.len() == path.len();
        (!is_foreign).then(|| (module, rest.to_vec()))
    }

    /// Returns the module that defines `path`, seen from the module `at`. Returns `None` if it is outside this crate.
    pub(super) fn definition(&self, at: &[String], path: &[String]) -> Option<Segments> {
        let (module, rest) = self.resolve(at, path)?;
        let exported = rest
            .first()
            .and_then(|name| self.exports.get(&(module.clone(), name.clone())));
        match exported {
            Some(from) if from.as_slice() != path => self.definition(&module, from),
            _ => Some(module),
        }
    }

    /// Returns the modules that `source` imports.
    pub(super) fn imports(&self, source: &Source, with_tests: bool) -> BTreeSet<Segments> {
        items(&source.tokens)
            .filter(|item| with_tests || !is_for_tests(item))
            .flat_map(paths)
            .filter_map(|path| self.definition(&source.module, &path))
            .collect()
    }
}
