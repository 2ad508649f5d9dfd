"""Reads the settings with which a container engine runs the last stage of the Dockerfile."""

import json
import re
import shlex
from dataclasses import dataclass


@dataclass
class Image:
    program: str  # where scripts/bundle puts it
    entrypoint: list
    command: list
    health: list
    environment: dict
    mount_points: list
    folder: str
    user: int
    group: int
    stop_signal: str


def read(path):
    text = path.read_text()
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.M).replace("\\\n", " ").splitlines()
    pairs = [line.split(None, 1) for line in lines if line.strip()]
    last = max(at for at, (word, _) in enumerate(pairs) if word == "FROM")
    instructions = {}
    for word, rest in pairs[last:]:
        instructions.setdefault(word, []).append(rest)
    user, group = instructions["USER"][-1].split(":")
    return Image(
        program=re.search(r"scripts/bundle /image(\S+)", text)[1] + "/llama-mcp-server",
        entrypoint=json.loads(instructions["ENTRYPOINT"][-1]),
        command=json.loads(instructions["CMD"][-1]),
        health=json.loads(instructions["HEALTHCHECK"][-1].split("CMD", 1)[1]),
        environment=dict(pair.split("=", 1) for line in instructions["ENV"] for pair in shlex.split(line)),
        mount_points=json.loads(instructions["VOLUME"][-1]),
        folder=instructions["WORKDIR"][-1],
        user=int(user),
        group=int(group),
        stop_signal=instructions["STOPSIGNAL"][-1],
    )
