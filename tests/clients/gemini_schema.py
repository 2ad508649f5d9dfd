"""Checks the schemas of declared functions as the Gemini API does, which refuses a request with an invalid schema (400)."""

FIELDS = {
    "anyOf", "default", "description", "enum", "example", "format", "items", "maxItems", "maxLength", "maxProperties", "maximum",
    "minItems", "minLength", "minProperties", "minimum", "nullable", "pattern", "properties", "propertyOrdering", "required",
    "title", "type",
}
TYPES = {"string", "number", "integer", "boolean", "array", "object"}


def faults(schema, place=""):
    """Returns the faults of `schema` and all schemas in it, each with its place."""
    found = [f"unknown field `{field}`" for field in schema.keys() - FIELDS]
    kind = schema.get("type")
    if "anyOf" in schema:
        found += [f"`{field}` beside `anyOf`" for field in schema.keys() - {"anyOf", "description", "title", "nullable"}]
    elif not isinstance(kind, str) or kind.lower() not in TYPES:
        found.append(f"`type` is {kind!r}")
    kind = str(kind).lower()
    for field, of in (("items", "array"), ("properties", "object"), ("required", "object"), ("enum", "string")):
        if field in schema and kind != of:
            found.append(f"`{field}` beside the type {kind}")
    if kind == "array" and "items" not in schema:
        found.append("no `items`")
    if missing := set(schema.get("required", [])) - schema.get("properties", {}).keys():
        found.append(f"`required` names {sorted(missing)}, which is no property")
    found = [f"{place or 'root'}: {fault}" for fault in found]
    children = [*schema.get("properties", {}).items(), *((f"anyOf/{at}", each) for at, each in enumerate(schema.get("anyOf", [])))]
    if isinstance(items := schema.get("items"), dict):
        children.append(("items", items))
    for name, child in children:
        found += faults(child, f"{place}/{name}")
    return found


def faults_of_all(declarations):
    """Returns the faults of all declared functions. A function without parameters has no schema."""
    return [f"{name}: {fault}" for name, schema in declarations.items() for fault in faults(schema or {"type": "object"})]
