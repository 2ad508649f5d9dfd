"""Groups refusals by message, without the names, places and numbers in it."""

import re
from collections import Counter, defaultdict

KEYWORDS = set("""$ref $defs $schema $id $anchor $comment $dynamicRef $recursiveRef id definitions type properties required items
additionalItems prefixItems contains minContains maxContains unevaluatedItems unevaluatedProperties additionalProperties
patternProperties propertyNames minProperties maxProperties dependencies dependentRequired dependentSchemas enum const anyOf oneOf
allOf not if then else pattern format minLength maxLength minItems maxItems uniqueItems minimum maximum exclusiveMinimum
exclusiveMaximum multipleOf default examples title description discriminator nullable contentMediaType contentEncoding
contentSchema readOnly writeOnly deprecated""".split())
TYPES = {"object", "array", "string", "integer", "number", "boolean", "null"}


def shown(word):
    return f"`{word}`" if word in KEYWORDS or word in TYPES else "`…`"


def without_tool(message):
    return re.sub(r"^`tools\.t\d+[^`]*`: ", "", message)


def kind(message):
    """Returns the message without the parts that belong to one schema."""
    message = re.sub(r"; available: .*", "", without_tool(message))
    message = re.sub(r"`tools\.t\d+[^`]*`", "`…`", message)
    formats = re.search(r"\bformat `([\w-]+)`", message)
    message = re.sub(r"`([^`]*)`", lambda found: shown(found[1].strip('"')), message)
    message = re.sub(r'"[^"]*"', '"…"', message)
    message = re.sub(r"(?<![\w`])[-+]?\d[\d,._]*", "N", message)
    message = re.sub(r"(^|\s)[#/][^\s:;,]*", r"\1…", message)
    return f"{message} [{formats[1]}]" if formats else message


def grouped(refusals):
    """Returns the kinds of problems in `refusals`, pairs of a schema's name and its problems. Each kind has the number of schemas
    that have it, the number of schemas that have no other kind, and examples."""
    schemas, alone, examples = Counter(), Counter(), defaultdict(list)
    for name, problems in refusals:
        kinds = {}
        for problem in problems:
            kinds.setdefault(kind(problem["message"]), problem["message"])
        for text, message in kinds.items():
            schemas[text] += 1
            alone[text] += len(kinds) == 1
            examples[text].append((name, without_tool(message)))
    return [{"kind": text, "schemas": count, "alone": alone[text], "examples": examples[text][:3]}
            for text, count in schemas.most_common()]
