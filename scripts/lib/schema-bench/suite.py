"""Schemas that test whether keywords are enforced correctly: the JSON Schema Test Suite, which has a schema for each meaning of each
keyword, and combinations of keywords. The suite is in the source archive of the PyPI package jsonschema."""

import glob
import json
import os
import re
import sys
import tarfile
import tempfile

from corpora import of_folder, once, run

ARCHIVE = "jsonschema==4.26.0"
DRAFTS = {"2020-12": "draft2020-12", "draft 7": "draft7", "draft 4": "draft4"}
COMBINATIONS = "combinations of keywords"
# In the suite, schemas of older drafts do not name their draft.
NAMED = {"draft7": "http://json-schema.org/draft-07/schema#", "draft4": "http://json-schema.org/draft-04/schema#"}


def name_of(draft):
    return f"JSON Schema Test Suite, {draft}"


def write(archive, draft, folder):
    """Writes one file for each group of tests, named after the file of the group and its number."""
    for member in archive.getmembers():
        found = re.search(rf"/json/tests/{draft}/((?:optional/)?(?:format/)?[\w-]+)\.json$", member.name)
        if found:
            for number, group in enumerate(json.load(archive.extractfile(member))):
                schema = group["schema"]
                if draft in NAMED and isinstance(schema, dict):
                    schema = {"$schema": NAMED[draft], **schema}
                with open(f"{folder}/{found[1].replace('/', '-')}-{number}.json", "w", encoding="utf-8") as file:
                    json.dump(schema, file)


def of_suite(cache, pattern):
    """Returns the schemas of each set whose name matches the pattern."""
    wanted = {draft: folder for draft, folder in DRAFTS.items() if re.search(pattern, name_of(draft))}

    def make(folder):
        print("Getting the JSON Schema Test Suite ...", file=sys.stderr)
        with tempfile.TemporaryDirectory() as downloaded:
            run(sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--no-binary",
                "jsonschema", ARCHIVE, "-d", downloaded)
            with tarfile.open(glob.glob(f"{downloaded}/*.tar.gz")[0]) as archive:
                for draft in DRAFTS.values():
                    write(archive, draft, once(f"{folder}/{draft}", ARCHIVE, lambda _: None))
    found = {}
    if wanted:
        folder = once(f"{cache}/corpora/suite", ARCHIVE, make)
        found = {name_of(draft): of_folder(f"{folder}/{part}") for draft, part in wanted.items()}
    if re.search(pattern, COMBINATIONS):
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "combinations.json"), encoding="utf-8") as file:
            found[COMBINATIONS] = json.load(file)
    return found
