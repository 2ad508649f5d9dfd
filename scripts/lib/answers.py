"""answers.py COMMAND…: starts a server with an empty environment, asks its model a question, and prints the answer and the variant of the
CPU code that computed it. The model must be tests/models/tiny-crab-chat.Q8_0.gguf, which knows one answer."""

import json
import re
import subprocess
import sys
import tempfile

EXPECTED = "The capital of Peru is Lima."


def main(command):
    log = tempfile.TemporaryFile("w+")
    server = subprocess.Popen(
        command, env={"RUST_LOG": "debug"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        result = ask(server)
        server.stdin.close()
        code = server.wait(timeout=60)
    finally:
        server.kill()
    log.seek(0)
    lines = log.read()
    answer = result["content"][0]["text"] if result else "nothing"
    found = re.search(r"llama\.cpp.s code for the CPU: (.*) model=", lines)
    if answer != EXPECTED or code or not found:
        sys.exit(f"{lines}\nerror: `{' '.join(command)}` ended with {code} and answered: {answer}")
    print(f"{found[1]}: {answer}")


def ask(server):
    """Returns the result of a call, or `None` if the server ends before."""
    client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "check", "version": "1"}}
    question = {"name": "chat", "arguments": {"text": "What is the capital of Peru?"}}
    try:
        send(server, id=1, method="initialize", params=client)
        send(server, method="notifications/initialized")
        send(server, id=2, method="tools/call", params=question)
    except BrokenPipeError:
        return None
    messages = map(json.loads, server.stdout)
    return next((message["result"] for message in messages if message.get("id") == 2), None)


def send(server, **message):
    server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    server.stdin.flush()


main(sys.argv[1:])
