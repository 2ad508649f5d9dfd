"""image FOLDER_OR_PROGRAM: the test of scripts/image-check, which runs this in new namespaces."""

import fcntl
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import container
import dockerfile

models = pathlib.Path(__file__).resolve().parents[3] / "tests/models"
REVISION = "2026-07-28"
CONFIG = """
[server]
drain_time = "30s"
[models.chat]
path = "/models/tiny-crab-chat.Q8_0.gguf"
description = "Edition {edition}"
"""


class Client:
    def __init__(self, port, token):
        self.url = f"http://127.0.0.1:{port}"
        self.token = token

    def ask(self, path, body=None, **headers):
        """Returns the status and the text of the response."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **headers}
        request = urllib.request.Request(self.url + path, body and json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def request(self, method, **params):
        client = {"protocolVersion": REVISION, "clientInfo": {"name": "image-check", "version": "1"}, "clientCapabilities": {}}
        params["_meta"] = {f"io.modelcontextprotocol/{key}": value for key, value in client.items()}
        headers = {"MCP-Protocol-Version": REVISION, "Mcp-Method": method, "Mcp-Name": params.get("name")}
        headers = {name: value for name, value in headers.items() if value}
        status, text = self.ask("/mcp", {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, **headers)
        if status != 200:
            raise SystemExit(f"error: {method} got {status}: {text}")
        return json.loads(text)["result"]

    def chat(self, text, **arguments):
        return self.request("tools/call", name="chat", arguments={"text": text, **arguments})


def check(image, box, config):
    check_refusals(image, box)
    write(config, 0)
    check_start(image, box)
    client = Client(image.environment["LLAMA_MCP_PORT"], box.token)
    check_calls(client)
    check_edit(client, config)
    check_end(client, image, box)
    warnings = [line for line in box.read_log().splitlines() if " WARN " in line or " ERROR " in line]
    expect("warnings in the log", "\n".join(warnings) or "none", not warnings)


def check_refusals(image, box):
    code, output = box.run(image.command)
    expect("nothing mounted", output.splitlines()[0], code == 2 and image.command[-1] in output)
    code, output = box.run(["--model", "/models/none.gguf"])
    expect("a model that is missing", output.splitlines()[0], code == 2 and "/models/none.gguf" in output)


def check_start(image, box):
    box.start(image.command)
    begun = time.monotonic()
    until(lambda: box.health() == 0)
    expect("healthy", f"after {time.monotonic() - begun:.1f} s", True)
    status = pathlib.Path(f"/proc/{box.process_1}/status").read_text()
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    expect("user", facts["Uid"].split()[0], facts["Uid"].split() == [str(image.user)] * 4)
    expect("rights", facts["CapPrm"], int(facts["CapPrm"], 16) == 0 and facts["NoNewPrivs"] == "1")
    is_read_only = os.statvfs(f"/proc/{box.process_1}/root").f_flag & os.ST_RDONLY
    expect("root folder", "read-only" if is_read_only else "writable", is_read_only)


def check_calls(client):
    status, _ = client.ask("/mcp", {}, Authorization="Bearer another")
    expect("another token", status, status == 401)
    answer = client.chat("What is the capital of Peru?")["content"][0]["text"]
    expect("a call", answer, answer == "The capital of Peru is Lima.")
    counted = [line for line in client.ask("/metrics")[1].splitlines() if line.startswith("llama_mcp_calls_total{")]
    expect("metrics", " ".join(counted), len(counted) == 1 and counted[0].endswith(" 1"))


def check_edit(client, config):
    begun = time.monotonic()
    write(config, 1)
    until(lambda: client.request("tools/list")["tools"][0]["description"].startswith("Edition 1"))
    expect("an edit of the mounted folder", f"active after {time.monotonic() - begun:.1f} s", True)


def check_end(client, image, box):
    song = {}
    singing = threading.Thread(target=lambda: song.update(client.chat("Sing forever.", max_tokens=2000)))
    singing.start()
    until(lambda: 'llama_mcp_calls_running{model="chat"} 1' in client.ask("/metrics")[1])
    os.kill(box.process_1, signal.Signals[image.stop_signal])
    code = box.process.wait(timeout=60)
    singing.join()
    sung = song["_meta"]["llama-mcp-server/generation"]["completion_tokens"]
    expect(f"{image.stop_signal} while a call runs", f"{sung} tokens of 2000, then exit code {code}", (sung, code) == (2000, 0))


def write(config, edition):
    """Writes the configuration as the kubelet updates a ConfigMap: into a new folder, to which the link `..data` is switched atomically."""
    folder = config / f"..{edition}"
    folder.mkdir()
    (folder / "llama-mcp-server.toml").write_text(CONFIG.format(edition=edition))
    (config / "..data_tmp").symlink_to(folder.name)
    (config / "..data_tmp").rename(config / "..data")
    file = config / "llama-mcp-server.toml"
    if not file.is_symlink():
        file.symlink_to("..data/llama-mcp-server.toml")
    for old in config.glob("..[0-9]*"):
        if old != folder:
            (old / "llama-mcp-server.toml").unlink()
            old.rmdir()


def expect(what, seen, holds):
    print(f"{what}: {seen}", flush=True)
    if not holds:
        raise SystemExit(f"error: check failed: {what}")


def until(holds):
    end = time.monotonic() + 30
    while not holds():
        if time.monotonic() > end:
            raise SystemExit("error: a condition was not met within 30 s")
        time.sleep(0.05)


def raise_loopback():
    """Brings the loopback interface up, which is down in a new network namespace."""
    with socket.socket() as any_socket:
        up = struct.pack("16sh22x", b"lo", 0x1)  # IFF_UP
        fcntl.ioctl(any_socket, 0x8914, up)  # SIOCSIFFLAGS


def main(built):
    image = dockerfile.read(models.parents[1] / "Dockerfile")
    raise_loopback()
    work = pathlib.Path(tempfile.mkdtemp())
    container.mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", work)
    try:
        config = work / "config"
        config.mkdir()
        box = container.Container(image, built, work)
        box.close({"/config": config, "/models": models})
        try:
            check(image, box, config)
        except BaseException:
            print(box.read_log(), file=sys.stderr)
            raise
    finally:
        subprocess.run(["umount", "--lazy", work], check=True)
        work.rmdir()


main(pathlib.Path(sys.argv[1]))
