"""examples.py SERVER MODEL NODE: the clients of examples/clients, each over stdio and over HTTP with a token.

NODE is the folder of scripts/get-node-packages; Python's client uses this program's packages, Rust's is built here."""

import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

from serving import serving

server, model, node = (os.path.abspath(argument) for argument in sys.argv[1:])
clients = pathlib.Path(__file__).parents[2] / "examples/clients"
song = "Sing forever."
flags = ["--model", model, "--temperature", "0", "--repeat_penalty", "1", "--deadline", "2"]


def python():
    program = clients / "python/client.py"
    assert f'"mcp=={importlib.metadata.version("mcp")}"' in program.read_text(), "another version than is tested"
    return [sys.executable, program]


def typescript(folder):
    """Copied, as a user does, beside the packages."""
    shutil.copytree(clients / "typescript", folder, dirs_exist_ok=True)
    pathlib.Path(folder, "node_modules").symlink_to(f"{node}/node_modules")
    wanted = json.loads(pathlib.Path(folder, "package.json").read_text())["dependencies"]
    for package, version in wanted.items():
        installed = json.loads(pathlib.Path(node, "node_modules", package, "package.json").read_text())
        assert installed["version"] == version, f"another version of {package} than is tested"
    return [f"{node}/node", f"{folder}/client.ts"]


def rust():
    target = pathlib.Path(server).parents[1]
    subprocess.run(
        ["cargo", "build", "-q", "--locked", "--manifest-path", clients / "rust/Cargo.toml", "--target-dir", target],
        check=True, env={**os.environ, "CARGO_PROFILE_DEV_DEBUG": "0"})
    return [target / "debug/client"]


def ask(client, *where, token="secret"):
    environment = {**os.environ, "LLAMA_MCP_AUTH": token}
    return subprocess.run([*client, song, *where], env=environment, capture_output=True, text=True, timeout=60)


def sings(client, *where):
    sung = ask(client, *where)
    assert sung.returncode == 0 and sung.stdout.startswith("la la"), sung
    assert "truncated after" in sung.stdout.splitlines()[-1], sung.stdout[-200:]
    assert re.search(r"^ +\d\.\d s  .*la la", sung.stderr, re.MULTILINE), sung.stderr


def is_refused(client, url):
    refused = ask(client, url, token="wrong")
    assert refused.returncode != 0 and refused.stdout == "", refused


with tempfile.TemporaryDirectory() as folder:
    for name, client in (("Python", python()), ("TypeScript", typescript(folder)), ("Rust", rust())):
        begun = time.monotonic()
        sings(client, server, *flags)
        with serving([server, *flags, "--auth", "secret"]) as url:
            sings(client, url)
            is_refused(client, url)
        print(f"Example in {name}: ok, {time.monotonic() - begun:.1f} s")
