"""Validates answers with python-jsonschema. Reads lines with `schema` and `answers`. For each, writes a line with the faults of the
answers without and with checks of `format`, or the reason why the schema cannot be used."""

import json
import sys

from jsonschema import (Draft3Validator, Draft4Validator, Draft6Validator, Draft7Validator, Draft201909Validator,
                        Draft202012Validator, FormatChecker, SchemaError)
from jsonschema.validators import validator_for
from referencing import Registry

# A schema that names no draft is read as the first of these.
DRAFTS = [Draft202012Validator, Draft201909Validator, Draft7Validator, Draft6Validator, Draft4Validator, Draft3Validator]


def draft_of(schema):
    """Returns the draft that the schema names, or the newest draft in which it is valid."""
    named = validator_for(schema, default=None)
    for draft in ([named] if named else []) + DRAFTS:
        try:
            # A pattern that only other engines support does not make the draft wrong.
            draft.check_schema(schema, format_checker=FormatChecker(formats=()))
            return draft
        except SchemaError:
            continue
    raise ValueError("valid by no draft")


def faults(schema, answers, **options):
    validator = draft_of(schema)(schema, registry=Registry(), **options)
    found = []
    for answer in answers:
        fault = next(validator.iter_errors(answer), None)
        found.append(fault and f"{fault.validator} at {fault.json_path}: {fault.message[:200]}")
    return found


for line in sys.stdin:
    asked = json.loads(line)
    results = {}
    for mode in "plain", "formats":
        try:
            options = {"format_checker": draft_of(asked["schema"]).FORMAT_CHECKER} if mode == "formats" else {}
            results[mode] = faults(asked["schema"], asked["answers"], **options)
        except Exception as error:  # This validator cannot check the schema, whatever the reason.
            results[mode] = f"{type(error).__name__}: {str(error)[:200]}"
    print(json.dumps(results), flush=True)
