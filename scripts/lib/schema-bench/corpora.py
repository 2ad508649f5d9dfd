"""The sets of schemas: JSONSchemaBench, and the output of schema generators for ordinary models. Each set is a folder of JSON files,
which is made once and cached."""

import json
import os
import re
import shutil
import subprocess
import sys

PUBLIC = "https://github.com/guidance-ai/jsonschemabench"
# Folders of JSONSchemaBench, with their names in the table.
PUBLIC_SETS = {
    "Glaiveai2K": "Glaive function calls", "Github_trivial": "GitHub trivial", "Github_easy": "GitHub easy",
    "Github_medium": "GitHub medium", "Github_hard": "GitHub hard", "Github_ultra": "GitHub ultra",
    "Kubernetes": "Kubernetes", "Snowplow": "Snowplow", "WashingtonPost": "Washington Post", "JsonSchemaStore": "JSON Schema Store",
}


def run(*command, **options):
    try:
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, **options).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")


def once(folder, wanted, make):
    """Calls `make` to fill the folder, unless the folder was filled for the same `wanted` before. Returns the folder."""
    mark = f"{folder}/.stamp"
    if not os.path.exists(mark) or open(mark).read() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        make(folder)
        with open(mark, "w") as file:
            file.write(wanted)
    return folder


def from_git(repository, out):
    """Copies `data` from a git directory, which requires no work tree, to `out`."""
    listed = run("git", "-C", repository, "ls-tree", "-r", "-z", "HEAD", "data").decode().split("\0")
    files = [line.split("\t") for line in listed if line.endswith(".json")]
    asked = "".join(about.split()[2] + "\n" for about, _ in files)
    blobs = run("git", "-C", repository, "cat-file", "--batch", input=asked.encode())
    place = 0
    for _, path in files:
        end = blobs.index(b"\n", place)
        head = blobs[place:end].split()
        if head[-1] == b"missing":
            place = end + 1
            continue
        place, size = end + 1, int(head[2])
        target = os.path.join(out, os.path.relpath(path, "data"))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(blobs[place:place + size])
        place += size + 1


def public(out, cache):
    """Copies JSONSchemaBench to `out`: from `SCHEMA_BENCH_DATA`, a clone or its git directory, or from a new clone."""
    source = os.environ.get("SCHEMA_BENCH_DATA")
    if not source:
        source = f"{cache}/jsonschemabench"
        if not os.path.exists(source):
            print("Getting JSONSchemaBench (31 MB) ...", file=sys.stderr)
            run("git", "clone", "-q", "--depth", "1", PUBLIC, source)
    if os.path.isdir(f"{source}/data"):
        shutil.copytree(f"{source}/data", out)
    else:
        from_git(source, out)


def of_folder(folder):
    """Returns the schemas of a folder by file name."""
    schemas = {}
    for file in sorted(os.listdir(folder)):
        if file.endswith(".json"):
            with open(os.path.join(folder, file), encoding="utf-8") as text:
                schemas[file.removesuffix(".json")] = json.load(text)
    return schemas


def of_public(cache, pattern):
    folder = f"{cache}/corpora/public"
    if not os.path.isdir(folder):
        shutil.rmtree(f"{folder}.part", ignore_errors=True)
        public(f"{folder}.part", cache)
        os.rename(f"{folder}.part", folder)
    return {name: of_folder(f"{folder}/{part}") for part, name in PUBLIC_SETS.items() if re.search(pattern, name)}
