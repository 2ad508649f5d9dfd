"""client_check.py SERVER MODEL PYTHON NODE TEMPLATES [NAME...]: runs the programs of tests/clients, each with the packages of its client.

PYTHON, NODE and TEMPLATES are the outputs of scripts/get-python-packages, get-node-packages and get-templates. NAME selects
clients by their program."""

import collections
import dataclasses
import os
import pathlib
import platform
import re
import shlex
import subprocess
import sys
import tempfile

root = pathlib.Path(__file__).parents[2]
server, model, python, node, templates, *wanted = sys.argv[1:]
LIMIT = 600


@dataclasses.dataclass
class Client:
    """A client: its name and version, its program in tests/clients, the program's arguments after server and model, and the
    packages of PyPI or npm that it requires in addition to those of scripts/test."""

    name: str
    version: str
    program: str
    arguments: tuple = ()
    pip: tuple = ()
    npm: tuple = ()
    path: str = python


# opencode's main package only chooses one of these platform packages, with an install script that is not run here.
opencode = f"opencode-{sys.platform}-{'arm64' if platform.machine() in ('arm64', 'aarch64') else 'x64'}"
opencode_program = root / "models/.clients/opencode/node_modules" / opencode / "bin/opencode"
langchain = ("langchain-mcp-adapters==0.3.2", "langchain-google-genai==4.4.3")
# mcpo does not start with the newest `mcp` and FastAPI.
CLIENTS = [
    Client("Python SDK 2", "2.3.0", "python_mcp.py"),
    Client("Python SDK 1", "1.30.0", "python_mcp1.py", path=f"{python}/mcp1:{python}"),
    Client("TypeScript SDK 2", "2.4.0", "typescript_v2.js"),
    Client("TypeScript SDK 1", "1.32.2", "typescript_v1.js"),
    Client("MCP Inspector", "2.12.0", "inspector.js"),
    Client("AI SDK 6, `@ai-sdk/google` 3", "6.0.325, 3.0.141", "ai_sdk.py", (node,)),
    Client("`@huggingface/jinja` (LM Studio), Gemma 4's templates", "0.5.11", "jinja.js", (templates,)),
    Client("opencode, Gemini model", "1.18.33", "opencode.py", (opencode_program,), npm=(f"{opencode}@1.18.33",)),
    Client("FastMCP", "4.2.3", "fastmcp_client.py", pip=("fastmcp==4.2.3",)),
    Client("google-genai", "3.6.1", "google_genai.py", pip=("google-genai==3.6.1", "mcp==1.30.0")),
    Client("OpenAI Agents SDK", "0.24.0", "openai_agents.py", pip=("openai-agents==0.24.0", "mcp==2.3.0")),
    Client("LangChain adapters, `langchain-google-genai`", "0.3.2, 4.4.3", "with_langchain.py", pip=langchain),
    Client("mcpo", "0.0.20", "with_mcpo.py", pip=("mcpo==0.0.20", "mcp==1.30.0", "fastapi==0.139.0")),
    Client("mcp-proxy", "0.13.0", "with_mcp_proxy.py", pip=("mcp-proxy==0.13.0",)),
]


def install(client):
    """Installs the packages of the client into a folder of its own. Returns the value of PYTHONPATH."""
    if not (client.pip or client.npm):
        return client.path
    name = pathlib.Path(client.program).stem
    folder = root / "models/.clients" / name
    stamp = folder / "installed"
    packages = " ".join(client.pip + client.npm)
    if not stamp.exists() or stamp.read_text() != packages:
        print(f"Getting {packages} ...", file=sys.stderr)
        subprocess.run(["rm", "-rf", folder], check=True)
        folder.mkdir(parents=True)
        if client.pip:
            pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--root-user-action=ignore"]
            subprocess.run([*pip, "--target", folder, *client.pip], check=True, stdout=sys.stderr)
        if client.npm:
            npm = ["npm", "install", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            subprocess.run([*npm, *client.npm], check=True, stdout=sys.stderr)
        stamp.write_text(packages)
    return str(folder)


def tapped(folder):
    """Returns a program that runs the server and copies its standard input to a file, and the path of that file."""
    program, sent = folder / "llama-mcp-server", folder / "sent"
    sent.touch()
    program.write_text(f'#!/usr/bin/env bash\nexec {shlex.quote(os.path.abspath(server))} "$@" < <(exec tee -a {shlex.quote(str(sent))})\n')
    program.chmod(0o755)
    return program, sent


def revisions(sent):
    """Returns the revisions of the protocol that a client asked for over stdio, the usual one first."""
    found = re.findall(r'"(?:io\.modelcontextprotocol/)?protocolVersion": ?"([\d-]+)"', sent.read_text(errors="replace"))
    return [revision for revision, _ in collections.Counter(found).most_common()]


def run(client):
    """Runs the client's program. Returns whether it succeeded, and the revisions."""
    environment = {**os.environ, "PYTHONPATH": install(client), "NODE_PATH": f"{node}/node_modules"}
    runtime = f"{node}/node" if client.program.endswith(".js") else sys.executable
    with tempfile.TemporaryDirectory() as folder:
        program, sent = tapped(pathlib.Path(folder))
        command = [runtime, root / "tests/clients" / client.program, program, model, *client.arguments]
        try:
            ended = subprocess.run(command, env=environment, timeout=LIMIT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        except subprocess.TimeoutExpired as late:
            print(f"{late}\n{(late.output or b'').decode(errors='replace')}", file=sys.stderr)
            return False, revisions(sent)
        # Bridges log every call.
        lines = ended.stdout.splitlines(keepends=True)
        sys.stderr.writelines(line for line in lines if ended.returncode or ": ok, " in line)
        return ended.returncode == 0, revisions(sent)


names = [pathlib.Path(client.program).stem for client in CLIENTS]
unknown = set(wanted) - set(names)
if unknown:
    sys.exit(f"error: unknown clients: {', '.join(sorted(unknown))}; known are {', '.join(names)}")
rows = []
for name, client in zip(names, CLIENTS):
    if wanted and name not in wanted:
        continue
    print(f"\n== {client.name} {client.version}", file=sys.stderr)
    right, spoken = run(client)
    rows.append((client, right, spoken))
print("\n| client | version | revision | result |\n| --- | --- | --- | --- |")
for client, right, spoken in rows:
    print(f"| {client.name} | {client.version} | {', '.join(spoken) or '?'} | {'all' if right else '**fails**'} |")
sys.exit(0 if all(right for _, right, _ in rows) else 1)
