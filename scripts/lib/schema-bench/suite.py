"""The JSON Schema Test Suite: a schema for each meaning of each keyword, so its answers show what is enforced wrongly. It comes
out of the source archive of the PyPI package jsonschema."""

import glob
import json
import re
import sys
import tarfile
import tempfile

from corpora import of_folder, once, run

ARCHIVE = "jsonschema==4.26.0"
DRAFTS = {"2020-12": "draft2020-12", "draft 7": "draft7", "draft 4": "draft4"}
# Older drafts' schemas do not name their draft.
NAMED = {"draft7": "http://json-schema.org/draft-07/schema#", "draft4": "http://json-schema.org/draft-04/schema#"}


def name_of(draft):
    return f"JSON Schema Test Suite, {draft}"


def write(archive, draft, folder):
    """One file for each group of tests, named after its file and number."""
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
    """Returns the schemas of each draft whose name the pattern finds."""
    wanted = {draft: folder for draft, folder in DRAFTS.items() if re.search(pattern, name_of(draft))}

    def make(folder):
        print("Getting the JSON Schema Test Suite ...", file=sys.stderr)
        with tempfile.TemporaryDirectory() as downloaded:
            run(sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--no-binary", "jsonschema",
                ARCHIVE, "-d", downloaded)
            with tarfile.open(glob.glob(f"{downloaded}/*.tar.gz")[0]) as archive:
                for draft in DRAFTS.values():
                    write(archive, draft, once(f"{folder}/{draft}", ARCHIVE, lambda _: None))
    if not wanted:
        return {}
    folder = once(f"{cache}/corpora/suite", ARCHIVE, make)
    return {name_of(draft): of_folder(f"{folder}/{part}") for draft, part in wanted.items()}
