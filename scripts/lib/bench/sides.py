"""The two servers that are compared. Each side starts its server, calls it, and returns its processes."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from process import OverStdio, WorkerAlone, flags, rpc
from setting import CONTEXT, SAMPLING, SLOTS
from texts import story

Answer = namedtuple("Answer", "text prompt_tokens cached_tokens completion_tokens")
GENERATION = "llama-mcp-server/generation"
# How this server renders messages if the model has no template. llama-server would use another model's template.
BASE_TEMPLATE = """{% for message in messages %}{{ "" if loop.first else "\n\n" }}{{ message.content }}{% endfor %}"""
# Pieces of a stream before the other call is sent.
DELTAS = 8


def connect(url):
    """Returns a new connection for a call, since servers may close idle ones."""
    return http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=600)


def send(connection, path, body, headers):
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    if response.status != 200:
        sys.exit(f"{path}: {response.status}: {response.read().decode()}")
    return response


def post(url, path, body, headers):
    connection = connect(url)
    try:
        response = send(connection, path, body, headers)
        text = response.read()
    except OSError as error:
        sys.exit(f"{url}: {error}")
    connection.close()
    return json.loads(text), response.headers


class Side:
    process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def call(self, text, max_tokens):
        return self.chat([{"role": "user", "content": text}], max_tokens)

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None


def one_tool(options, preload, model=(), **tool):
    """Returns the tables of a configuration file with a model and a tool of it, which has the argument `question`. `model` has further keys
    of the model, and `tool` the keys of the tool."""
    model = {"path": os.path.abspath(options.model), "n_ctx": CONTEXT, "n_threads": options.threads, "parallel": SLOTS,
             "preload": preload, **dict(model)}
    return {
        "models.chat": model,
        "tools.ask": {"model": "chat", **tool},
        "tools.ask.arguments.question": {"description": "What is asked."},
    }


def config_text(tables):
    return "\n".join(f"[{name}]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in table.items())
                     for name, table in tables.items())


def toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    # Numbers, booleans and texts in JSON are valid TOML.
    return json.dumps(value, ensure_ascii=False)


@contextmanager
def config_file(tables):
    """Opens a temporary configuration file with these tables."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8") as file:
        file.write(config_text(tables))
        file.flush()
        yield file


def plain_tool(system, max_tokens):
    """Returns the keys of a tool that passes its argument on, with a system prompt."""
    return {"system": system, "prompt": "{{ question }}", "max_tokens": max_tokens}


class Ours(Side):
    name = "llama-mcp-server"

    def __init__(self, options, slots=SLOTS, config=None):
        self.options = options
        settings = ["--config", config] if config else flags(options, slots)
        command = [options.server, *settings, "--transport", "http", "--port", "0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        log = ""
        for line in self.process.stderr:
            log += line
            if found := re.search(r"listening on (http://\S+)/mcp", line):
                break
        else:
            sys.exit(f"error: the server did not start:\n{log}")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.url, self.headers = found[1], {}
        _, headers = self.request("initialize", {})
        self.headers = {"Mcp-Session-Id": headers["Mcp-Session-Id"]}

    def request(self, method, params):
        return post(self.url, "/mcp", rpc(method, params), self.headers)

    def tool(self, name, arguments):
        answer, _ = self.request("tools/call", {"name": name, "arguments": arguments})
        result = answer.get("result", {})
        # An empty answer or truncated JSON is an error for clients, but counts as a measurement here.
        if not (usage := result.get("_meta", {}).get(GENERATION)):
            sys.exit(f"{self.name}: {answer}")
        return result["content"][0]["text"], usage

    def answer(self, tool, arguments):
        text, usage = self.tool(tool, arguments)
        return Answer(text, *(usage[key] for key in Answer._fields[1:]))

    def chat(self, messages, max_tokens):
        return self.answer("chat", {"messages": messages, "max_tokens": max_tokens, **SAMPLING})

    def ask(self, question):
        """Calls the tool of `with_tool`."""
        return self.answer("ask", {"question": question})

    @staticmethod
    def with_tool(options, preload=False, **keys):
        """Starts a server with the tool of `one_tool`. Its model is loaded by the first call, unless `preload`."""
        return Ours.configured(options, one_tool(options, preload, **keys))

    @staticmethod
    def configured(options, tables):
        """Starts a server with these tables of a configuration file."""
        with config_file(tables) as file:
            return Ours(options, config=file.name)

    def fresh_with_tool(self, system, max_tokens):
        return Ours.with_tool(self.options, **plain_tool(system, max_tokens))

    def fresh_with_typed(self, prompt, schema):
        answer = {"choices": schema["enum"]} if "enum" in schema else {"output": schema}
        tool = {"prompt": prompt + "{{ question }}", "temperature": 0.0, "repeat_penalty": 1.0}
        return Ours.with_tool(self.options, **tool, **answer)

    def fresh(self, **settings):
        return Ours(self.options, **settings)

    def pids(self):
        worker = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True).stdout.split()
        return {"server": self.process.pid, "worker": int(worker[0])}

    def cold_call(self):
        """Returns when the answer arrived. Uses stdio, as clients start the server, and sends both requests at once."""
        with OverStdio(self.options) as server:
            call = rpc("tools/call", {"name": "chat", "arguments": {"text": story(), "max_tokens": 1, **SAMPLING}})
            server.write(rpc("initialize", {}), call)
            server.read_until(b'"result":', 2)
            return time.perf_counter()

    def stream_beside(self, text, prompt):
        """Returns when the pieces of the stream arrived, and when the other call ended. Uses the worker's events, since MCP reports new text at
        time intervals."""
        with WorkerAlone(self.options) as worker:
            [stream] = worker.generate(text, max_tokens=CONTEXT)
            deltas, other, end = [], None, None
            while not end or deltas[-1] < end:
                call, update = worker.news()
                if call == stream and update.delta:
                    deltas.append(time.perf_counter())
                if len(deltas) == DELTAS and not other:
                    [other] = worker.generate(prompt, max_tokens=1)
                if call == other and update.done:
                    end = time.perf_counter()
                if call == stream and update.done:
                    break
            return deltas, end


class LlamaServer(Side):
    name = "against"

    def __init__(self, url, pid=None):
        self.url, self.pid = url, pid

    @staticmethod
    def body(messages, max_tokens):
        return {"messages": messages, "max_tokens": max_tokens, **SAMPLING}

    def chat(self, messages, max_tokens, **members):
        body = self.body(messages, max_tokens) | members
        answer, _ = post(self.url, "/v1/chat/completions", body, {})
        usage = answer["usage"]
        cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
        return Answer(answer["choices"][0]["message"]["content"], usage["prompt_tokens"], cached, usage["completion_tokens"])

    def pids(self):
        return {"server": self.pid} if self.pid else {}

    def stream_beside(self, text, prompt):
        """Returns the same times, from the events over HTTP."""
        def ask():
            self.call(prompt, 1)
            return time.perf_counter()

        connection = connect(self.url)
        body = self.body([{"role": "user", "content": text}], CONTEXT) | {"stream": True}
        deltas, other = [], None
        with ThreadPoolExecutor(1) as pool:
            for line in send(connection, "/v1/chat/completions", body, {}):
                if line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                    deltas.append(time.perf_counter())
                if len(deltas) == DELTAS and not other:
                    other = pool.submit(ask)
                if other and other.done() and deltas[-1] >= other.result():
                    break
            connection.close()
            return deltas, other.result() if other else None


def has_template(model):
    """Returns whether the header of the GGUF, at the start of the file, has a chat template."""
    with open(model, "rb") as file:
        return b"tokenizer.chat_template" in file.read(1 << 26)


class LlamaProgram(LlamaServer):
    """A llama-server that is started here."""

    def __init__(self, options, slots=SLOTS):
        self.options = options
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [options.against_program, "-m", options.model, "-t", str(options.threads), "-np", str(slots),
                   "-c", str(slots * CONTEXT), "--host", "127.0.0.1", "--port", str(port)]
        if not has_template(options.model):
            command += ["--jinja", "--chat-template", BASE_TEMPLATE]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        super().__init__(f"http://127.0.0.1:{port}", self.process.pid)
        while not self.healthy():
            if self.process.poll() is not None:
                sys.exit(f"error: the program did not start: {' '.join(command)}")
            time.sleep(0.005)

    def healthy(self):
        connection = connect(self.url)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def fresh(self, **settings):
        return LlamaProgram(self.options, **settings)

    def fresh_with_tool(self, system, max_tokens):
        server = self.fresh()
        server.ask = lambda question: server.chat(
            [{"role": "system", "content": system}, {"role": "user", "content": question}], max_tokens)
        return server

    def fresh_with_typed(self, prompt, schema):
        server = self.fresh()
        answer = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        server.ask = lambda question: server.chat([{"role": "user", "content": prompt + question}], 512, response_format=answer,
                                                  temperature=0.0, repeat_penalty=1.0)
        return server

    def cold_call(self):
        with self.fresh() as server:
            server.call(story(), 1)
            return time.perf_counter()
