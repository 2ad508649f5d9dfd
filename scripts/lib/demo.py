"""demo.py SERVER MODEL QUESTION: an MCP conversation over stdio, using only the standard library."""

import json
import os
import subprocess
import sys
import tempfile

server, model, question = sys.argv[1:]
server, model = os.path.abspath(server), os.path.abspath(model)
log = tempfile.TemporaryFile()
process = subprocess.Popen(
    [server, "--model", model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8")


def fail(cause):
    process.kill()
    process.wait()
    log.seek(0)
    sys.exit(f"error: {cause}\n\n{log.read().decode(errors='replace')}")


def send(message):
    process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    process.stdin.flush()


def request(id, method, params):
    """Sends a request and returns its result. Prints the progress notifications that arrive before it."""
    send({"id": id, "method": method, "params": params})
    for line in process.stdout:
        message = json.loads(line)
        if message.get("id") == id:
            if "error" in message:
                fail(message["error"]["message"])
            return message["result"]
        if message.get("method") == "notifications/progress":
            news = message["params"]
            print(f"  progress {news['progress']:4.1f} s  {news['message'].splitlines()[-1][-70:]}", flush=True)
    fail("the server ended without an answer")


info = request(1, "initialize", {
    "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "demo", "version": "1"}})
send({"method": "notifications/initialized"})
print(f"initialize   {info['serverInfo']['name']} {info['serverInfo']['version']}, MCP {info['protocolVersion']}")
tools = request(2, "tools/list", {})["tools"]
print(f"tools/list   {', '.join(tool['name'] for tool in tools)}")
print(f"tools/call   {question}")
result = request(3, "tools/call", {
    "name": tools[0]["name"], "arguments": {"text": question, "temperature": 0}, "_meta": {"progressToken": 3}})
answer = result["content"][0]["text"]
if result.get("isError"):
    fail(answer)
generation = result["_meta"]["llama-mcp-server/generation"]
print(f"\n{answer}\n")
seconds = generation["decode_ms"] / 1000
speed = f", {generation['completion_tokens'] / seconds:.0f} tokens/s" if seconds > 0.2 else ""
print(f"({generation['prompt_tokens']} + {generation['completion_tokens']} tokens, finish_reason {generation['finish_reason']}{speed})\n")
process.stdin.close()
if process.wait() != 0:
    fail(f"the server ended with {process.returncode}")
print("For your MCP client (Claude Desktop: claude_desktop_config.json):\n")
print(json.dumps({"mcpServers": {"llama": {"command": server, "args": ["--model", model]}}}, indent=2))
