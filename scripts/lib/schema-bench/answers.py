"""Lets a real model answer with accepted schemas, and checks the answers with python-jsonschema and Ajv."""

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from decimal import Decimal

import generators
from acceptance import toml

HERE = os.path.dirname(os.path.abspath(__file__))
# Tools of one server, slots of its model, and calls in flight.
BATCH = 100
PARALLEL = 8
IN_FLIGHT = 16
# Seconds without a message after which a server is killed.
SILENCE = 300
PROTOCOL = "2025-11-25"
LISTED = 20


class Server:
    """A server over stdio, with a tool for each schema."""

    def __init__(self, options, schemas):
        self.folder = tempfile.TemporaryDirectory()
        for place, schema in enumerate(schemas):
            with open(f"{self.folder.name}/{place}.json", "w") as file:
                json.dump(schema, file)
        keys = f"temperature = {options.temperature}\nmax_tokens = {options.max_tokens}\ntop_p = 1.0\ntop_k = 0\nseed = -1\n"
        config = toml(options.model, len(schemas), keys)
        config = config.replace("tool = false", f"tool = false\nparallel = {PARALLEL}\nn_ctx = {options.max_tokens + 256}", 1)
        with open(f"{self.folder.name}/server.toml", "w") as file:
            file.write(config)
        self.log = open(f"{self.folder.name}/log", "w+")
        self.process = subprocess.Popen([options.server, "--config", f"{self.folder.name}/server.toml"], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)

    def __enter__(self):
        about = {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": {"name": "schema-bench", "version": "1"}}
        self.write("initialize", about, "first")
        if self.read() is None:
            self.log.seek(0)
            sys.exit(f"error: the server did not start: {self.log.read()[-2000:]}")
        self.write("notifications/initialized", {})
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.log.close()
        self.folder.cleanup()

    def write(self, method, params, identifier=None):
        message = {"jsonrpc": "2.0", "method": method, "params": params} | ({"id": identifier} if identifier is not None else {})
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def read(self):
        """Returns the next response, or `None` if the server ended. A server that sends nothing for `SILENCE` seconds is killed."""
        alarm = threading.Timer(SILENCE, self.process.kill)
        alarm.start()
        try:
            while line := self.process.stdout.readline():
                message = json.loads(line)
                if "id" in message and "method" not in message:
                    return message
            return None
        finally:
            alarm.cancel()

    def answers(self, tools, times):
        """Calls each tool `times` times. Returns a pair of tool and response for each call."""
        calls = [tool for tool in range(tools) for _ in range(times)]
        asked, found, open_calls = 0, [], set()
        while len(found) < len(calls):
            while asked < len(calls) and len(open_calls) < IN_FLIGHT:
                self.write("tools/call", {"name": f"t{calls[asked]}", "arguments": {}}, asked)
                open_calls.add(asked)
                asked += 1
            message = self.read()
            if message is None:
                self.log.seek(0)
                ended = {"error": {"code": "ended", "message": f"the server ended or hung: {self.log.read()[-500:]}"}}
                return found + [(calls[call], ended) for call in open_calls]
            open_calls.discard(message["id"])
            found.append((calls[message["id"]], message))
        return found


def outcome(message):
    """Returns `complete`, `cut`, `refused` if the server found the answer wrong itself, or an error's code and text."""
    if "error" in message:
        return f"{message['error']['code']}: {message['error']['message']}"
    result = message["result"]
    if result.get("isError"):
        error = result.get("_meta", {}).get("llama-mcp-server/error")
        code = error.get("code") if isinstance(error, dict) else error
        text = result["content"][0]["text"] if result.get("content") else ""
        return {"answer_cut": "cut", "answer_wrong": "refused"}.get(code, f"{code}: {text}")
    return "complete"


def is_decimal_multiple(fault, answer):
    """Returns whether the only fault is that doubles do not divide evenly: 8.36 is a multiple of 0.01, but not for validators
    that divide doubles."""
    if not (multiple := re.match(r"multipleOf at (\S+): .*multiple of (\S+)$", fault)):
        return False
    # `$.price[0]` or `/price/0`
    for part in re.findall(r"[^$./\[\]']+", multiple[1]):
        answer = answer[int(part)] if isinstance(answer, list) else answer.get(part) if isinstance(answer, dict) else None
    return isinstance(answer, (int, float)) and Decimal(repr(answer)) % Decimal(multiple[2]) == 0


class Validator:
    """A program that reads lines with a schema and answers, and writes a line with the fault of each answer."""

    def __init__(self, command, **options):
        self.process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)

    def check(self, schema, answers):
        self.process.stdin.write(json.dumps({"schema": schema, "answers": answers}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def validators(cache):
    environment = {**os.environ, "PYTHONPATH": generators.python(cache)}
    # Node looks for packages in the folder of the program.
    program = os.path.join(generators.node(cache), "validate.mjs")
    with open(os.path.join(HERE, "validate.mjs")) as source, open(program, "w") as copy:
        copy.write(source.read())
    return {"python-jsonschema": Validator([sys.executable, "-W", "ignore", os.path.join(HERE, "validate.py")], env=environment),
            "Ajv": Validator(["node", program])}


def check_set(options, name, accepted, checkers, unchecked, refused):
    """Lets the model answer with a sample of a set. Returns the counts, the answers that a validator refused, and the calls that failed."""
    chosen = accepted
    if 0 < options.sample < len(accepted):
        chosen = random.Random(f"{options.seed} {name}").sample(accepted, options.sample)
    counts, wrong, failed = Counter(schemas=len(chosen)), [], []
    for start in range(0, len(chosen), BATCH):
        batch = chosen[start:start + BATCH]
        if sys.stderr.isatty():
            print(f"\033[Kanswers to {name}: {start} of {len(chosen)}", end="\r", file=sys.stderr)
        with Server(options, [schema for _, schema in batch]) as server:
            complete = {}
            for tool, message in server.answers(len(batch), options.answers):
                what = outcome(message)
                counts["answers"] += 1
                if what in ("complete", "cut", "refused"):
                    counts[what] += 1
                if what == "complete":
                    complete.setdefault(tool, []).append(message["result"].get("structuredContent"))
                elif what == "refused":
                    refused.append({"set": name, "schema": batch[tool][0], "error": message["result"]["content"][0]["text"]})
                elif what != "cut":
                    counts["failed"] += 1
                    failed.append({"set": name, "schema": batch[tool][0], "error": what})
        for tool, answers in complete.items():
            schema_name, schema = batch[tool]
            for checker, validator in checkers.items():
                results = validator.check(schema, answers)
                for mode in "plain", "formats":
                    if isinstance(results[mode], str):
                        counts[f"not checked by {checker}"] += len(answers) * (mode == "plain")
                        if mode == "plain":
                            unchecked.append({"set": name, "schema": schema_name, "checker": checker, "why": results[mode]})
                        continue
                    for answer, fault, plain in zip(answers, results[mode], results["plain"]):
                        if fault and is_decimal_multiple(fault, answer):
                            counts["by doubles"] += mode == "plain"
                        elif fault and not (mode == "formats" and plain):
                            counts[f"{mode} {checker}"] += 1
                            wrong.append({"set": name, "schema": schema_name, "checker": checker, "mode": mode,
                                          "fault": fault, "answer": answer})
    return {"name": name, **counts}, wrong, failed


# Columns of the table: the heading, the count, the width.
COLUMNS = [
    ("schemas", "schemas", 8), ("answers", "answers", 8), ("complete", "complete", 9), ("cut", "cut", 6), ("refused", "refused", 8),
    ("failed", "failed", 7), ("invalid: python", "plain python-jsonschema", 16), ("Ajv", "plain Ajv", 5),
    ("not checked: python", "not checked by python-jsonschema", 20), ("Ajv", "not checked by Ajv", 5),
    ("formats: python", "formats python-jsonschema", 16), ("Ajv", "formats Ajv", 5), ("by doubles", "by doubles", 11),
]


def table(rows):
    print(f"\n{'answers':40}" + "".join(f"{heading:>{width}}" for heading, _, width in COLUMNS))
    for row in rows:
        print(f"{row['name']:40}" + "".join(f"{row.get(count, 0):{width},}" for _, count, width in COLUMNS))
    print("\nrefused: complete, but the server's own check found it wrong. invalid: against the schema as it was written."
          "\nnot checked: the validator cannot read the schema, for example a pattern that Python's `re` does not know."
          "\nformats: valid only because `format` is an annotation. by doubles: multiples of a fraction that validators reject"
          "\nbecause they divide doubles.")


def listed(title, entries, text):
    if entries:
        print(f"\n{title}: {len(entries)}")
    for entry in entries[:LISTED]:
        print(f"  {text(entry)}")
    if len(entries) > LISTED:
        print(f"  … and {len(entries) - LISTED} more; --json FILE has all")


def check(options, accepted):
    """Lets the model answer with samples of all sets. Prints a table, then the faults."""
    checkers = validators(options.cache)
    rows, wrong, failed, unchecked, refused = [], [], [], [], []
    for name, schemas in accepted.items():
        row, of_set, failed_of_set = check_set(options, name, schemas, checkers, unchecked, refused)
        rows.append(row)
        wrong += of_set
        failed += failed_of_set
    for checker in checkers.values():
        checker.stop()
    if sys.stderr.isatty():
        print("\033[K", end="\r", file=sys.stderr)
    table(rows)
    listed("Calls that failed", failed, lambda entry: f"{entry['set']}/{entry['schema']}: {entry['error'][:300]}")
    schemas = Counter(f"{entry['set']}/{entry['schema']}" for entry in refused)
    listed("Schemas whose answers the server refused", schemas.most_common(), lambda entry: f"{entry[0]}: {entry[1]} times")
    for mode, title in ("plain", "Invalid answers"), ("formats", "Answers that are invalid if `format` is checked"):
        listed(title, [entry for entry in wrong if entry["mode"] == mode],
               lambda entry: f"{entry['set']}/{entry['schema']}, {entry['checker']}: {entry['fault'][:300]}")
    return {"sets": rows, "wrong": wrong, "failed": failed, "refused": refused, "not_checked": unchecked}
