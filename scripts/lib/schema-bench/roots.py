"""Gives every schema an object at its root, which structured output of tools requires."""

from urllib.parse import unquote

OBJECT_KEYWORDS = {"properties", "required", "additionalProperties", "patternProperties", "propertyNames", "minProperties",
                   "maxProperties", "dependencies", "dependentRequired", "dependentSchemas"}
MAPS_OF_SCHEMAS = {"properties", "patternProperties", "definitions", "$defs", "dependentSchemas", "dependencies"}
DATA = {"enum", "const", "default", "examples", "example"}
# The property that contains a schema that is not an object.
PROPERTY = "value"


def target(root, reference):
    """Returns what a local `$ref` points to, or `None`."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found = root
    for part in unquote(reference[1:]).split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        elif isinstance(found, dict) and part in found:
            found = found[part]
        else:
            return None
    return found


def is_object(schema, root, depth=0):
    """Returns whether the schema describes objects only, by its `type`, its keywords, or its branches."""
    if not isinstance(schema, dict) or depth > 10:
        return False
    if "type" in schema:
        return schema["type"] in ("object", ["object"])
    if "$ref" in schema:
        return is_object(target(root, schema["$ref"]), root, depth + 1)
    if OBJECT_KEYWORDS & schema.keys():
        return True
    for keyword, enough in ("allOf", any), ("anyOf", all), ("oneOf", all):
        branches = schema.get(keyword)
        if isinstance(branches, list) and branches and enough(is_object(branch, root, depth + 1) for branch in branches):
            return True
    return False


def moved(schema, ids):
    """Returns the schema with its local references changed to point into the property."""
    if isinstance(schema, list):
        return [moved(item, ids) for item in schema]
    if not isinstance(schema, dict):
        return schema
    new = {}
    for keyword, value in schema.items():
        if keyword == "$ref" and isinstance(value, str):
            for identifier in ids:
                value = value.removeprefix(identifier) if value.startswith(identifier + "#") else value
            new[keyword] = f"#/properties/{PROPERTY}{value[1:]}" if value == "#" or value.startswith("#/") else value
        elif keyword in DATA:
            new[keyword] = value
        elif keyword in MAPS_OF_SCHEMAS and isinstance(value, dict):
            new[keyword] = {name: moved(item, ids) for name, item in value.items()}
        else:
            new[keyword] = moved(value, ids)
    return new


def with_object_root(schema):
    """Returns the schema itself if its root is an object, otherwise the schema of an object that has `schema` as its only property.
    Also returns whether it was wrapped in this way."""
    if is_object(schema, schema):
        return schema, False
    head, ids = {}, []
    if isinstance(schema, dict):
        # References are resolved against the identifier of the root.
        head = {keyword: schema[keyword] for keyword in ("$schema", "$id", "id") if isinstance(schema.get(keyword), str)}
        ids = [value for keyword, value in head.items() if keyword != "$schema"]
        schema = {keyword: value for keyword, value in schema.items() if keyword not in head}
    return {**head, "type": "object", "properties": {PROPERTY: moved(schema, ids)}, "required": [PROPERTY],
            "additionalProperties": False}, True
