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
    said = {}
    for word, rest in pairs[last:]:
        said.setdefault(word, []).append(rest)
    user, group = said["USER"][-1].split(":")
    return Image(
        program=re.search(r"scripts/bundle /image(\S+)", text)[1] + "/llama-mcp-server",
        entrypoint=json.loads(said["ENTRYPOINT"][-1]),
        command=json.loads(said["CMD"][-1]),
        health=json.loads(said["HEALTHCHECK"][-1].split("CMD", 1)[1]),
        environment=dict(pair.split("=", 1) for line in said["ENV"] for pair in shlex.split(line)),
        mount_points=json.loads(said["VOLUME"][-1]),
        folder=said["WORKDIR"][-1],
        user=int(user),
        group=int(group),
        stop_signal=said["STOPSIGNAL"][-1],
    )
