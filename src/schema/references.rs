//! Resolves the references of a schema, and names the schemas that they refer to.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::keywords;

/// The schemas that references may refer to, and the names of those that they do refer to.
pub(super) struct References<'schema> {
    written: &'schema Value,
    identifiers: Identifiers,
    /// JSON pointers of the subschemas with an `$id`, which are the base of the references inside them.
    resources: Vec<String>,
    /// Names below `$defs`, by JSON pointer.
    names: BTreeMap<String, String>,
    /// Names below `$defs` that are taken.
    taken: BTreeSet<String>,
    /// Number of requests for each name.
    counts: BTreeMap<String, usize>,
    /// Referenced schemas that are not read yet, as JSON pointer and name.
    pending: Vec<(String, String)>,
}

impl<'schema> References<'schema> {
    /// Collects the identifiers of `schema`.
    pub(super) fn from_schema(schema: &'schema Value) -> Self {
        let mut identifiers = BTreeMap::new();
        collect_identifiers(schema, "", &mut identifiers);
        let key = identifier_key(schema);
        let mut resources: Vec<String> = identifiers.values().flatten().cloned().collect();
        resources.retain(|pointer| {
            let id = schema
                .pointer(pointer)
                .and_then(|schema| schema.get(key)?.as_str());
            !pointer.is_empty() && id.is_some_and(|id| !id.starts_with('#'))
        });
        Self {
            written: schema,
            identifiers,
            resources,
            names: BTreeMap::new(),
            taken: BTreeSet::new(),
            counts: BTreeMap::new(),
            pending: Vec::new(),
        }
    }

    /// Removes and returns the next referenced schema that is not read yet, as JSON pointer and name.
    pub(super) fn next_pending(&mut self) -> Option<(String, String)> {
        self.pending.pop()
    }

    /// Returns the name of the schema at `pointer`.
    pub(super) fn name(&mut self, pointer: String) -> String {
        if let Some(name) = self.names.get(&pointer) {
            return name.clone();
        }
        let name = self.new_name(&pointer);
        self.names.insert(pointer.clone(), name.clone());
        self.pending.push((pointer, name.clone()));
        name
    }

    /// Resolves `reference`, which is at `at`, to a JSON pointer. Returns `None` if the schema has no such part.
    pub(super) fn pointer_of(&self, reference: &str, at: &str) -> Option<String> {
        let (base, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let base = match base {
            "" => self.resource_of(at),
            base => match &self.identifiers.get(base)?[..] {
                [single] => single,
                _ => return None,
            },
        };
        let decoded = percent_decoded(fragment);
        let mut candidates = [decoded.as_str(), fragment].into_iter();
        candidates.find_map(|fragment| {
            let pointer = if fragment.is_empty() || fragment.starts_with('/') {
                format!("{base}{fragment}")
            } else {
                self.anchor(fragment, base)?.to_owned()
            };
            self.written.pointer(&pointer).map(|_| pointer)
        })
    }

    /// Returns the JSON pointer of the only schema with the anchor `name` in `resource`.
    fn anchor(&self, name: &str, resource: &str) -> Option<&str> {
        let pointers = self.identifiers.get(&format!("#{name}"))?.iter();
        let mut inside = pointers.filter(|pointer| self.resource_of(pointer) == resource);
        let single = inside.next()?;
        inside.next().is_none().then_some(single)
    }

    /// Returns the JSON pointer of the innermost schema with an `$id` around `pointer`. The pointer of the root is empty.
    fn resource_of(&self, pointer: &str) -> &str {
        let pointer = pointer.strip_prefix('#').unwrap_or(pointer);
        let around = self.resources.iter().filter(|resource| {
            let rest = pointer.strip_prefix(resource.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        around
            .max_by_key(|resource| resource.len())
            .map_or("", String::as_str)
    }

    /// Creates a name that needs no escapes in a reference.
    fn new_name(&mut self, pointer: &str) -> String {
        let last = pointer.rsplit('/').next().unwrap_or_default();
        let plain = |character: char| {
            if character.is_ascii_alphanumeric() || "_.-".contains(character) {
                character
            } else {
                '_'
            }
        };
        let base: String = match last {
            "" => "root".into(),
            last => last.chars().map(plain).collect(),
        };
        let mut name = base.clone();
        while !self.taken.insert(name.clone()) {
            let count = self.counts.entry(base.clone()).or_insert(1);
            *count += 1;
            name = format!("{base}_{count}");
        }
        name
    }
}

/// Returns the keyword that identifies subschemas of `schema`: `id` in drafts 3 and 4. In later drafts, `id` has no meaning.
fn identifier_key(schema: &Value) -> &'static str {
    let draft = schema
        .get("$schema")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let is_old = ["draft-03", "draft-04"]
        .iter()
        .any(|old| draft.contains(old));
    if is_old { "id" } else { "$id" }
}

/// JSON pointers of schemas, by identifier.
type Identifiers = BTreeMap<String, Vec<String>>;

/// Collects `$id`, `id` and `$anchor` of `schema` and of its subschemas. Values are not schemas, whatever they look like.
fn collect_identifiers(schema: &Value, pointer: &str, found: &mut Identifiers) {
    let below = |key: &str| format!("{pointer}/{}", escaped(key));
    for (key, value) in schema.as_object().into_iter().flatten() {
        match (key.as_str(), value) {
            ("$id" | "id", Value::String(id)) => {
                let id = id.trim_end_matches('#').to_owned();
                found.entry(id).or_default().push(pointer.to_owned());
            }
            ("$anchor" | "$dynamicAnchor", Value::String(anchor)) => {
                let anchor = format!("#{anchor}");
                found.entry(anchor).or_default().push(pointer.to_owned());
            }
            (_, Value::Object(schemas))
                if keywords::kind_of(key).is_map()
                    || ["$defs", "definitions"].contains(&key.as_str()) =>
            {
                for (name, schema) in schemas {
                    let pointer = format!("{}/{}", below(key), escaped(name));
                    collect_identifiers(schema, &pointer, found);
                }
            }
            (_, Value::Array(schemas)) if keywords::kind_of(key).is_schema() => {
                for (at, schema) in schemas.iter().enumerate() {
                    collect_identifiers(schema, &format!("{}/{at}", below(key)), found);
                }
            }
            (_, schema) if keywords::kind_of(key).is_schema() => {
                collect_identifiers(schema, &below(key), found);
            }
            _ => {}
        }
    }
}

/// Returns `text` with `%XX` decoded. Returns `text` itself if the result is not UTF-8.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let code = rest
            .get(at + 1..at + 3)
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        let (byte, length) = code.map_or((b'%', 1), |code| (code, 3));
        bytes.push(byte);
        rest = &rest[at + length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// Returns `name` escaped as a segment of a JSON pointer (RFC 6901).
pub(super) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
