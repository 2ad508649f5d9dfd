//! The keywords of all drafts of JSON Schema: the types of their values, and whether they constrain answers.

/// The kind of value that a keyword has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    /// A keyword that does not constrain values and is not used.
    Dropped,
    /// A description of the content of a string, which is not enforced.
    Content,
    /// An annotation that clients see.
    Annotation,
    /// `const`.
    Const,
    /// A schema.
    Schema,
    /// A schema, or a boolean in older drafts.
    SchemaOrFlag,
    /// `items`: a schema. Before draft 2020-12, also an array of schemas.
    Items,
    /// An array of schemas.
    Schemas,
    /// An object of schemas.
    SchemaMap,
    /// `dependencies`.
    Dependencies,
    /// An object of arrays of names.
    NameMap,
    /// An array of names.
    Names,
    /// `type`.
    Type,
    /// `enum`.
    Values,
    /// `$ref`.
    Reference,
    /// A non-negative integer.
    Count,
    /// A number.
    Number,
    /// A number. In draft 4, a boolean.
    Bound,
    /// A regular expression.
    Pattern,
    /// `format`.
    Format,
    /// A boolean.
    Flag,
    /// Not a keyword of any draft.
    Unknown,
}

impl Keyword {
    /// Returns whether the keyword does not constrain values.
    pub(super) fn is_annotation(self) -> bool {
        matches!(self, Self::Dropped | Self::Content | Self::Annotation)
    }

    /// Returns whether its value is a schema or an array of schemas.
    pub(super) fn is_schema(self) -> bool {
        matches!(
            self,
            Self::Schema | Self::SchemaOrFlag | Self::Items | Self::Schemas
        )
    }

    /// Returns whether its value is an object whose values are schemas.
    pub(super) fn is_map(self) -> bool {
        matches!(self, Self::SchemaMap | Self::Dependencies)
    }
}

/// The keywords and the kinds of their values.
const KEYWORDS: &[(&str, Keyword)] = &[
    ("$schema", Keyword::Dropped),
    ("$id", Keyword::Dropped),
    ("id", Keyword::Dropped),
    ("$anchor", Keyword::Dropped),
    ("$dynamicAnchor", Keyword::Dropped),
    ("$comment", Keyword::Dropped),
    ("$vocabulary", Keyword::Dropped),
    // Read when a reference refers to one of their schemas.
    ("$defs", Keyword::Dropped),
    ("definitions", Keyword::Dropped),
    ("examples", Keyword::Dropped),
    ("deprecated", Keyword::Dropped),
    ("readOnly", Keyword::Dropped),
    ("writeOnly", Keyword::Dropped),
    ("contentMediaType", Keyword::Content),
    ("contentEncoding", Keyword::Content),
    ("contentSchema", Keyword::Content),
    ("title", Keyword::Annotation),
    ("description", Keyword::Annotation),
    ("default", Keyword::Annotation),
    ("const", Keyword::Const),
    ("type", Keyword::Type),
    ("enum", Keyword::Values),
    ("$ref", Keyword::Reference),
    ("$dynamicRef", Keyword::Reference),
    ("$recursiveRef", Keyword::Reference),
    ("allOf", Keyword::Schemas),
    ("anyOf", Keyword::Schemas),
    ("oneOf", Keyword::Schemas),
    ("not", Keyword::Schema),
    ("if", Keyword::Schema),
    ("then", Keyword::Schema),
    ("else", Keyword::Schema),
    ("properties", Keyword::SchemaMap),
    ("patternProperties", Keyword::SchemaMap),
    ("additionalProperties", Keyword::SchemaOrFlag),
    ("unevaluatedProperties", Keyword::SchemaOrFlag),
    ("propertyNames", Keyword::Schema),
    ("required", Keyword::Names),
    ("minProperties", Keyword::Count),
    ("maxProperties", Keyword::Count),
    ("dependencies", Keyword::Dependencies),
    ("dependentRequired", Keyword::NameMap),
    ("dependentSchemas", Keyword::SchemaMap),
    ("items", Keyword::Items),
    ("prefixItems", Keyword::Schemas),
    ("additionalItems", Keyword::SchemaOrFlag),
    ("unevaluatedItems", Keyword::SchemaOrFlag),
    ("contains", Keyword::Schema),
    ("minContains", Keyword::Count),
    ("maxContains", Keyword::Count),
    ("minItems", Keyword::Count),
    ("maxItems", Keyword::Count),
    ("uniqueItems", Keyword::Flag),
    ("minLength", Keyword::Count),
    ("maxLength", Keyword::Count),
    ("pattern", Keyword::Pattern),
    ("format", Keyword::Format),
    ("minimum", Keyword::Number),
    ("maximum", Keyword::Number),
    ("exclusiveMinimum", Keyword::Bound),
    ("exclusiveMaximum", Keyword::Bound),
    ("multipleOf", Keyword::Number),
];

/// Annotations of other dialects, generators and editors. They do not constrain values, and some look like misspelled keywords.
const ANNOTATIONS: [&str; 17] = [
    "example",
    "discriminator",
    "xml",
    "externalDocs",
    "enumNames",
    "enumDescriptions",
    "markdownDescription",
    "markdownEnumDescriptions",
    "defaultSnippets",
    "deprecationMessage",
    "doNotSuggest",
    "errorMessage",
    "patternErrorMessage",
    "tsType",
    "tsEnumNames",
    "propertyOrder",
    "meta:enum",
];

/// Returns the kind of the keyword `key`.
pub(super) fn kind_of(key: &str) -> Keyword {
    let known = KEYWORDS.iter().find(|(known, _)| *known == key);
    known.map_or(Keyword::Unknown, |(_, keyword)| *keyword)
}

/// Returns the keywords that constrain values.
pub(super) fn constraints() -> Vec<&'static str> {
    KEYWORDS
        .iter()
        .filter(|(_, keyword)| !keyword.is_annotation())
        .map(|(key, _)| *key)
        .collect()
}

/// Returns whether `key` is a known annotation of another dialect.
pub(super) fn is_annotation(key: &str) -> bool {
    ANNOTATIONS.contains(&key)
}

/// Returns the constraining keyword of which `key` is probably a misspelling. It differs in case or separators, by one edit, or, if it
/// is long, by two edits.
pub(super) fn correction_of(key: &str) -> Option<&'static str> {
    // Renaming a keyword to `_minimum` is a common way to disable it.
    if is_annotation(key)
        || kind_of(key) != Keyword::Unknown
        || key.starts_with("x-")
        || key.starts_with('_')
    {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace(['-', '_'], "");
    let found = plain(key);
    let likeness = |keyword: &&'static str| {
        let keyword = plain(keyword);
        let edits = strsim::osa_distance(&found, &keyword);
        let allowed = match keyword.chars().count() {
            ..5 => 0,
            5..9 => 1,
            _ => 2,
        };
        (edits <= allowed).then_some(edits)
    };
    let close = constraints().into_iter();
    let close = close.filter_map(|keyword| Some((likeness(&keyword)?, keyword)));
    close.min().map(|(_, keyword)| keyword)
}

/// Returns whether `key` only combines schemas, or does not constrain values.
pub(super) fn is_combinator(key: &str) -> bool {
    [
        "$ref",
        "$dynamicRef",
        "$recursiveRef",
        "allOf",
        "anyOf",
        "oneOf",
    ]
    .contains(&key)
        || kind_of(key).is_annotation()
}
