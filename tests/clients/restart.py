"""restart.py SERVER MODEL [CLIENT ...]: clients must continue to work when their server is restarted.

Each client has its own virtual environment in models/.restart, since the clients require different versions of the MCP library;
the first run requires PyPI. The server is stopped once with SIGTERM and once with SIGKILL, and starts again on the same port. The
client process keeps running and must get its next answer. The official clients for Python and TypeScript do the same in
python_mcp.py and checks.js. Without CLIENT, all clients of this file run.
"""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv

from serving import restartable

here = pathlib.Path(__file__).resolve().parent
server, model, *wanted = sys.argv[1:]
TOKEN = "secret"
LIMIT = 60

# The packages of each client, and the program in the folder `restart` that uses them; mcpo is a program itself.
clients = {
    "mcp_1": ("mcp==1.30.0", "mcp_1.py"),
    "fastmcp_3": ("fastmcp==3.4.11", "fastmcp_legacy.py"),
    "fastmcp_4": ("fastmcp==4.2.3", "fastmcp_legacy.py"),
    # mcpo allows newer versions of these packages, but does not start with them.
    "mcpo": ("mcpo==0.0.20 mcp==1.30.0 fastapi==0.115.12", None),
}


# Each client has its own packages.
variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def environment(client):
    packages, _ = clients[client]
    folder = here.parents[1] / "models/.restart" / client
    installed = folder / "installed"
    if not installed.exists() or installed.read_text() != packages:
        print(f"Getting {packages} ...", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([folder / "bin/pip", "install", "-q", "--disable-pip-version-check", *packages.split()], check=True, env=variables)
        installed.write_text(packages)
    return folder / "bin"


@contextlib.contextmanager
def asking(client, url):
    """Runs the client's program, which reads questions line by line and writes the answers. Gives a function that asks a question."""
    _, program = clients[client]
    command = [environment(client) / "python", here / "restart" / program, url, TOKEN]
    process = subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(question):
        process.stdin.write(question + "\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    try:
        yield ask
        process.stdin.close()
        assert process.wait(LIMIT) == 0, process.returncode
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def mcpo(client, url):
    """Runs mcpo, which serves the tools as a REST API. Gives a function that asks a question."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    headers = json.dumps({"Authorization": f"Bearer {TOKEN}"})
    command = [environment(client) / "mcpo", "--host", "127.0.0.1", "--port", str(port), "--server-type", "streamable-http"]
    log = environment(client).parent / "log"
    with log.open("w") as output:
        process = subprocess.Popen([*command, "--header", headers, "--", url], env=variables, stdout=output, stderr=output)

    def ask(question):
        body = json.dumps({"text": question}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/chat", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=LIMIT) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return error.read().decode()

    try:
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=LIMIT).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, f"mcpo does not start: {log}"
                time.sleep(0.1)
        yield ask
    finally:
        process.kill()
        process.wait()


def goes_on(client):
    begun = time.monotonic()
    flags = ["--model", model, "--temperature", "0", "--repeat_penalty", "1", "--auth", TOKEN]
    with restartable([server, *flags]) as (url, restart), (mcpo if client == "mcpo" else asking)(client, url) as ask:
        for country, capital, how in (("Peru", "Lima", signal.SIGTERM), ("Cuba", "Havana", signal.SIGKILL), ("Kenya", "Nairobi", None)):
            answer = ask(f"What is the capital of {country}?")
            assert answer == f"The capital of {country} is {capital}.", f"{client}: {answer}"
            if how:
                restart(how)
    print(f"{client}, restarts: ok, {time.monotonic() - begun:.1f} s")


unknown = set(wanted) - set(clients)
if unknown:
    sys.exit(f"error: unknown clients: {', '.join(sorted(unknown))}; known are {', '.join(clients)}")
for client in wanted or clients:
    goes_on(client)
