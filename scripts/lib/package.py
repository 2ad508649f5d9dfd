"""Reads the package metadata from Cargo.toml."""

import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def package():
    metadata = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--no-deps"], check=True, stdout=subprocess.PIPE, cwd=ROOT)
    return json.loads(metadata.stdout)["packages"][0]
