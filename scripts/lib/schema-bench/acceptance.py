"""Finds out which schemas the program accepts: runs `config check` with one typed tool for each schema."""

import json
import os
import re
import subprocess
import sys
import tempfile

# Tools in one configuration.
BATCH = 100
# Time limits of one `config check` in seconds: for a batch, and for one schema.
LIMIT = 120
LIMIT_OF_ONE = 30
TOOL = re.compile(r"\btools\.t(\d+)\b")


def toml(model, count, keys=""):
    """Returns a configuration with one tool for each of the files 0.json, 1.json … in the same folder."""
    tools = "".join(f'[tools.t{number}]\nprompt = "x"\noutput = "${{file:{number}.json}}"\n{keys}\n' for number in range(count))
    return f"[models.m]\npath = {json.dumps(os.path.abspath(model))}\ntool = false\n\n{tools}"


def check(server, model, schemas):
    """Returns the problems of refused schemas and the notes of accepted schemas, by the number of the schema. `config check`
    reports problems of the grammar only if no schema has another problem, so each round leaves out the schemas refused before."""
    left, refused, notes = dict(enumerate(schemas)), {}, {}
    while left:
        numbers = list(left)
        with tempfile.TemporaryDirectory() as folder:
            for place, number in enumerate(numbers):
                with open(f"{folder}/{place}.json", "w") as file:
                    json.dump(left[number], file)
            with open(f"{folder}/server.toml", "w") as file:
                file.write(toml(model, len(numbers)))
            try:
                done = subprocess.run([server, "config", "check", f"{folder}/server.toml", "--format", "json"],
                                      capture_output=True, text=True,
                                      timeout=LIMIT if len(numbers) > 1 else LIMIT_OF_ONE)
                report = json.loads(done.stdout)
            except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
                if len(numbers) == 1:
                    refused[numbers[0]] = [{"message": f"`config check` gave no answer: {type(error).__name__}", "hint": ""}]
                    break
                # One of them is the cause, so each schema is checked alone.
                for number in numbers:
                    of_one, notes_of_one = check(server, model, [left[number]])
                    refused |= {number: problems for problems in of_one.values()}
                    notes |= {number: texts for texts in notes_of_one.values()}
                break
        if report["ok"]:
            for note in report.get("notes", []):
                if isinstance(note, str) and (found := TOOL.search(note)):
                    notes.setdefault(numbers[int(found[1])], []).append(note)
            break
        places = set()
        for problem in report["problems"]:
            if not (found := TOOL.search(problem["message"])):
                sys.exit(f"error: `config check` found a problem that belongs to no schema: {problem}")
            places.add(int(found[1]))
            refused.setdefault(numbers[int(found[1])], []).append(problem)
        for place in places:
            del left[numbers[place]]
    return refused, notes


def accept(server, model, schemas):
    """Runs `check` in batches, with a line of progress."""
    refused, notes = {}, {}
    for start in range(0, len(schemas), BATCH):
        if sys.stderr.isatty():
            print(f"\033[Kchecked: {start} of {len(schemas)}", end="\r", file=sys.stderr)
        of_batch, notes_of_batch = check(server, model, schemas[start:start + BATCH])
        refused |= {start + place: problems for place, problems in of_batch.items()}
        notes |= {start + place: texts for place, texts in notes_of_batch.items()}
    if sys.stderr.isatty():
        print("\033[K", end="\r", file=sys.stderr)
    return refused, notes
