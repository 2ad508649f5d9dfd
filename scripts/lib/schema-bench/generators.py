"""Runs schema generators for ordinary models: each is a small program that prints its schemas by the names of the models."""

import hashlib
import json
import os
import platform
import re
import shutil
import sys

from corpora import of_folder, once, run

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "generators")
PACKAGES = ["pydantic==2.14.4", "email-validator==2.4.0", "jsonschema[format-nongpl]==4.26.0"]
# The sets, with the files of their generators. A set is generated again when one of its files changes.
SETS = {
    "pydantic 2": ("pydantic_models.py", "pydantic_fields.py"), "zod 4": ("zod4.mjs",), "zod 3": ("zod3.mjs",),
    "TypeBox": ("typebox.mjs",), "Valibot": ("valibot.mjs",), "ts-json-schema-generator": ("typescript.mjs", "typescript.ts"),
    "schemars": ("schemars/src/main.rs", "schemars/Cargo.toml", "schemars/Cargo.lock"),
}


def text(*files):
    return "".join(open(os.path.join(HERE, file), encoding="utf-8").read() for file in files)


def stamp(*parts):
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def python(cache):
    """Returns the folder of the Python packages, for `PYTHONPATH`."""
    def install(folder):
        print("Getting pydantic and jsonschema ...", file=sys.stderr)
        run(sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", folder, *PACKAGES)
    return once(os.path.abspath(f"{cache}/python"), stamp(*PACKAGES, platform.python_version()), install)


def node(cache):
    """Returns the folder of the Node packages."""
    lock = text("package.json", "package-lock.json")

    def install(folder):
        print("Getting the generators and Ajv for Node ...", file=sys.stderr)
        for file in "package.json", "package-lock.json":
            shutil.copy(os.path.join(HERE, file), folder)
        run("npm", "ci", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    return once(os.path.abspath(f"{cache}/node"), stamp(lock), install)


def generated(cache, files):
    """Runs the generator that consists of these files."""
    program = files[0]
    if program.endswith(".py"):
        return run(sys.executable, "-B", "-W", "ignore", os.path.join(HERE, program), env={**os.environ, "PYTHONPATH": python(cache)})
    if program.endswith(".rs"):
        manifest = os.path.join(HERE, "schemars", "Cargo.toml")
        return run("cargo", "run", "-q", "--locked", "--manifest-path", manifest,
                   env={**os.environ, "CARGO_TARGET_DIR": os.path.abspath(f"{cache}/target")})
    # Node looks for packages in the folder of the program.
    folder = node(cache)
    for file in files:
        shutil.copy(os.path.join(HERE, file), folder)
    return run("node", program, cwd=folder)


def of_generators(cache, pattern):
    """Returns the schemas of each set whose name matches the pattern."""
    found = {}
    for name, files in SETS.items():
        if not re.search(pattern, name):
            continue

        def make(folder):
            for model, schema in json.loads(generated(cache, files)).items():
                with open(f"{folder}/{model}.json", "w", encoding="utf-8") as file:
                    json.dump(schema, file, indent=1)
        wanted = stamp(text(*files), text("package-lock.json"), *PACKAGES)
        found[name] = of_folder(once(f"{cache}/corpora/{name.replace(' ', '-')}", wanted, make))
    return found
