"""Measures how many schemas of real programs a typed tool accepts, and whether the answers are valid.

The sets are JSONSchemaBench (schemas of function calls, GitHub, Kubernetes and others) and the output of generators for ordinary
models: pydantic, zod, TypeBox, Valibot, schemars, ts-json-schema-generator. The JSON Schema Test Suite and the combinations of
keywords serve to check answers: they use every keyword, in ways that nobody would write.

A schema is accepted if `config check` accepts a tool with it as `output`. With --answers, a model answers with the accepted schemas,
and python-jsonschema and Ajv check each complete answer against the schema as it was written.

The sets are fetched into models/.schema-bench. To use a clone of https://github.com/guidance-ai/jsonschemabench that is already on
the machine, or its git directory, set SCHEMA_BENCH_DATA to its path.
"""

import argparse
import os
import re
import sys

import corpora
import generators
import report
import suite
from acceptance import accept
from reasons import grouped
from roots import with_object_root


def parse():
    parser = argparse.ArgumentParser(prog="schema-bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, metavar="PATH", help="the server to measure; scripts/schema-bench builds it by default")
    parser.add_argument("--model", default="tests/models/tiny-crab-chat.Q8_0.gguf", metavar="PATH",
                        help="the GGUF that answers (default: tests/models/tiny-crab-chat.Q8_0.gguf)")
    parser.add_argument("--cache", default="models/.schema-bench", metavar="FOLDER",
                        help="folder in which the sets are cached (default: models/.schema-bench)")
    parser.add_argument("--sets", default="", metavar="PATTERN", help="only sets whose name this regular expression matches")
    parser.add_argument("--refusals", nargs="?", type=int, const=40, default=0, metavar="N",
                        help="print the N most frequent kinds of refusals with examples (default of N: 40)")
    parser.add_argument("--per-set", action="store_true", help="print refusals for each set, not for groups of sets")
    parser.add_argument("--names", action="store_true", help="print the names of the generators' schemas that are refused")
    parser.add_argument("--answers", type=int, default=0, metavar="N", help="check N answers for each schema")
    parser.add_argument("--sample", type=int, default=50, metavar="N",
                        help="with --answers: at most N accepted schemas of each set (default: 50; 0: all)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the sample (default: 1)")
    parser.add_argument("--temperature", type=float, default=1.5, help="temperature of the answers (default: 1.5)")
    parser.add_argument("--max-tokens", type=int, default=1000, help="most tokens of an answer (default: 1000)")
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/tools.md")
    parser.add_argument("--json", metavar="FILE", help="write all results to FILE")
    options = parser.parse_args()
    try:
        re.compile(options.sets)
    except re.error as error:
        parser.error(f"--sets: {error}")
    if not os.access(options.server, os.X_OK):
        parser.error(f"--server: `{options.server}` is not a program; build it first")
    return options


def measure(options, group, name, schemas):
    names = list(schemas)
    roots = [with_object_root(schemas[one]) for one in names]
    refused, notes = accept(options.server, options.model, [schema for schema, _ in roots])
    accepted = [(names[place], schema) for place, (schema, _) in enumerate(roots) if place not in refused]
    return {"group": group, "name": name, "schemas": len(names), "accepted": len(accepted),
            "as_written": sum(place not in refused for place, (_, is_wrapped) in enumerate(roots) if not is_wrapped),
            "refused": {names[place]: problems for place, problems in refused.items()},
            "notes": {names[place]: texts for place, texts in notes.items()}}, accepted


def print_refusals(options, sets):
    groups = {}
    for one in sets:
        title = f"Refusals of {one['name']}" if options.per_set else f"Refusals of {one['group']}"
        groups.setdefault(title, []).extend((f"{one['name']}/{name}", problems) for name, problems in one["refused"].items())
    for title, refusals in groups.items():
        if refusals:
            report.reasons(f"{title}: {len(refusals):,} schemas", grouped(refusals), options.refusals)


def main():
    options = parse()
    os.makedirs(options.cache, exist_ok=True)
    groups = {"JSONSchemaBench": corpora.of_public, "generators": generators.of_generators,
              "tests": suite.of_suite}
    sets, accepted = [], {}
    if not options.markdown:
        report.head()
    for group, get in groups.items():
        for name, schemas in get(options.cache, options.sets).items():
            one, accepted[name] = measure(options, group, name, schemas)
            sets.append(one)
            if not options.markdown:
                report.line(one)
    if not sets:
        sys.exit(f"error: no set matches --sets `{options.sets}`")
    (report.markdown if options.markdown else report.totals)(sets)
    if options.names:
        for one in sets:
            if one["group"] == "generators" and one["refused"]:
                print(f"\nrefused of {one['name']}: {', '.join(one['refused'])}")
    if options.refusals:
        print_refusals(options, sets)
    result = {"sets": sets}
    if options.answers:
        import answers
        result["answers"] = answers.check(options, accepted)
    if options.json:
        report.write(options.json, result)


main()
