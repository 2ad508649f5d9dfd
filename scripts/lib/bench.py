"""Measures this server, and alternately a llama-server beside it, as their clients see them.

Every figure is taken by the client's clock, the same way on both sides: whole calls over HTTP, sampled with this server's
defaults. No prompt is used twice, so no cache answers it. The last rows, MCP and pipe, are this server's alone: the same
texts to a worker by hand and through the server, over their standard input. Each row is measured --runs times (start ten
times, the pipe three times as often), the sides by turns; what is printed are medians, with the least and the greatest value.
"""

import argparse
import http.client
import itertools
import json
import os
import random
import re
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--server", required=True, help=argparse.SUPPRESS)
parser.add_argument("--default-model", help=argparse.SUPPRESS)
parser.add_argument("--model", help="the GGUF to measure (default: the demo's)")
parser.add_argument("--against", metavar="URL", help="a running llama-server with the same model")
parser.add_argument("--against-pid", type=int, metavar="PID", help="its process, for its memory")
parser.add_argument("--threads", type=int, default=os.cpu_count(), help="compute threads of this server (default: all)")
parser.add_argument("--runs", type=int, default=5, help="measurements of each row (default: 5)")
parser.add_argument("--calls", type=int, default=1000, help="calls before memory is looked at again")
parser.add_argument("--rows", default="", metavar="PATTERN", help="only rows whose name this regular expression finds")
parser.add_argument("--json", action="store_true", help="print JSON, with every value, medians and ratios")
options = parser.parse_args()
if options.runs < 1:
    parser.error("--runs: must be at least 1")
try:
    re.compile(options.rows)
except re.error as error:
    parser.error(f"--rows: {error}")
if not os.access(options.server, os.X_OK):
    parser.error(f"{options.server} is not there: build it first")
model = options.model or options.default_model

SLOTS = 8
CONTEXT = 4096
SAMPLING = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.0, "repeat_penalty": 1.1, "seed": 42}
FLAGS = ["--model", model, "--parallel", str(SLOTS), "--n_ctx", str(CONTEXT), "--n_threads", str(options.threads)]
GENERATION = "llama-mcp-server/generation"
WORDS = """river stone garden letter window morning yellow harbour silver bridge mountain winter kitchen paper market
forest island engine teacher silent ocean number family village castle summer travel orange doctor history""".split()
# Other texts in every run of this program: a server that is measured again still holds those of the last one.
drawn = random.Random()
number = itertools.count(drawn.randrange(10**6, 10**8))


def long_text(words):
    return f"Note {next(number)}. " + " ".join(drawn.choice(WORDS) for _ in range(words)) + ". What is this about?"


def story():
    return f"Write a very long story, number {next(number)}, about a {drawn.choice(WORDS)} and a {drawn.choice(WORDS)}."


def post(url, path, body, headers):
    """A connection for every call: servers close idle ones as they like."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=600)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **headers})
    except OSError as error:
        sys.exit(f"{url}: {error}")
    response = connection.getresponse()
    text = response.read()
    connection.close()
    if response.status != 200:
        sys.exit(f"{url}: {response.status}: {text.decode()}")
    return json.loads(text), response.headers


class Ours:
    name = "llama-mcp-server"

    def __init__(self):
        command = [options.server, *FLAGS, "--transport", "http", "--port", "0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        log = ""
        for line in self.process.stderr:
            log += line
            if found := re.search(r"listening on (http://\S+)/mcp", line):
                break
        else:
            sys.exit(f"the server does not start:\n{log}")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.url = found[1]
        _, headers = self.request("initialize", {}, {})
        self.headers = {"Mcp-Session-Id": headers["Mcp-Session-Id"]}

    def request(self, method, params, headers):
        body = {"jsonrpc": "2.0", "id": next(number), "method": method, "params": params}
        return post(self.url, "/mcp", body, headers)

    def call(self, text, max_tokens):
        arguments = {"text": text, "max_tokens": max_tokens, **SAMPLING}
        answer, _ = self.request("tools/call", {"name": "chat", "arguments": arguments}, self.headers)
        result = answer.get("result", {})
        if "result" not in answer or result.get("isError"):
            sys.exit(f"{self.name}: {answer}")
        usage = result["_meta"][GENERATION]
        return usage["prompt_tokens"], usage["completion_tokens"]

    def pids(self):
        worker = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True).stdout.split()
        return {"server": self.process.pid, "worker": int(worker[0])}

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Against:
    name = "against"

    def __init__(self, url):
        self.url = url

    def call(self, text, max_tokens):
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": max_tokens, **SAMPLING}
        answer, _ = post(self.url, "/v1/chat/completions", body, {})
        return answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]

    def pids(self):
        return {"server": options.against_pid} if options.against_pid else {}


def timed(work):
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


# The rows: each is measured on one side.

def prompt_speed(side):
    (tokens, _), seconds = timed(lambda: side.call(long_text(words_of(2000)), 1))
    return tokens / seconds


def generation_speed(calls):
    """Tokens beyond the first, and the time beyond that of the first: so the prompts do not count."""
    def all_at_once(side, max_tokens):
        texts = [story() for _ in range(calls)]
        with ThreadPoolExecutor(calls) as pool:
            counts, seconds = timed(lambda: list(pool.map(lambda text: side.call(text, max_tokens), texts)))
        return [tokens for _, tokens in counts], seconds

    def measure(side):
        _, prompts = all_at_once(side, 1)
        written, seconds = all_at_once(side, 192)
        if min(written) < 128:
            print(f"note: {side.name}: answers ended early ({written} tokens)", file=sys.stderr)
        return (sum(written) - calls) / (seconds - prompts)
    return measure


class Grammar:
    """Speed of writing, with a grammar and without one, by turns: this server's alone."""

    SCHEMA = {"type": "object", "required": ["title", "summary"], "properties": {
        name: {"type": "string", "minLength": 300, "maxLength": 600} for name in ("title", "summary")}}

    @staticmethod
    def speed(side, more):
        arguments = {"text": story(), "max_tokens": 192, **SAMPLING, **more}
        answer, _ = side.request("tools/call", {"name": "chat", "arguments": arguments}, side.headers)
        usage = answer["result"]["_meta"][GENERATION]
        return (usage["completion_tokens"] - 1) / usage["decode_ms"] * 1000

    @classmethod
    def share(cls, side):
        """Percent of the free speed."""
        pairs = [(cls.speed(side, {"json_schema": cls.SCHEMA}), cls.speed(side, {})) for _ in range(3)]
        return 100 * statistics.median(forced / free for forced, free in pairs)


def first_token(side):
    return timed(lambda: side.call(story(), 1))[1] * 1000


def short_call(side):
    return timed(lambda: side.call(story(), 48))[1] * 1000


def short_call_beside(side):
    with ThreadPoolExecutor(1) as pool:
        text, prompt = story(), long_text(words_of(3000))
        short = pool.submit(lambda: timed(lambda: side.call(text, 48))[1])
        # The short call begins just before: it has been sent when the prompt comes.
        time.sleep(0.05)
        tokens, _ = side.call(prompt, 1)
        if not 2700 < tokens < 3300:
            print(f"note: the prompt has {tokens} tokens", file=sys.stderr)
        return short.result() * 1000


ROWS = [
    ("prompt of 2,000 tokens", "tok/s", prompt_speed),
    *((f"generation, {calls} at once", "tok/s", generation_speed(calls)) for calls in (1, 2, 4, 8)),
    ("time to first token", "ms", first_token),
    ("48-token call alone", "ms", short_call),
    ("48-token call beside a 3,000-token prompt", "ms", short_call_beside),
]


def words_of(tokens):
    return int(tokens / tokens_per_word)


class Fresh:
    """A server that has just been started over stdio: its model is being loaded."""

    def __enter__(self):
        self.process = subprocess.Popen([options.server, *FLAGS], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        return self

    def request(self, method, member):
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {}}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if f'"{member}"' not in answer:
            sys.exit(f"the server does not answer: {answer}")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate()


def start_to_initialize():
    start = time.perf_counter()
    with Fresh() as server:
        server.request("initialize", "serverInfo")
        return (time.perf_counter() - start) * 1000


def lists_while_loading(lists):
    """Milliseconds of each `tools/list` right after the start, before the model can be there."""
    with Fresh() as server:
        server.request("initialize", "serverInfo")
        return [timed(lambda: server.request("tools/list", "inputSchema"))[1] * 1000 for _ in range(lists)]


def resident(pid):
    kib = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
    return int(kib) / 1024


class Pipe:
    """A process that reads and writes lines of JSON."""

    def __init__(self, command):
        # What the server sets for its workers: by hand they would spin longer, and lose to those behind a server.
        environment = {"GOMP_SPINCOUNT": "300", **os.environ}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        env=environment)

    def write(self, *messages):
        self.process.stdin.write("".join(json.dumps(message) + "\n" for message in messages).encode())
        self.process.stdin.flush()

    def read_until(self, member, times):
        """Not parsed: the reader must cost nothing. A quoted text has its quotes escaped, so it is never taken for a member."""
        while times > 0:
            line = next(self.process.stdout, b'"error": it has ended')
            if b'"error":' in line or b'"isError":true' in line or b'"failed":' in line:
                sys.exit(f"a call failed: {line.decode()}")
            times -= member in line

    def close(self):
        self.process.stdin.close()
        self.process.stdout.read()
        self.process.wait()


PIPE_CALLS = 16
PIPE_TOKENS = 64


class WorkerAlone(Pipe):
    def __init__(self):
        super().__init__([options.server, "worker"])
        self.write({"load": {"path": model, "n_gpu_layers": 99, "n_ctx": CONTEXT, "n_batch": 2048,
                             "n_threads": options.threads, "parallel": SLOTS, "max_queue": 1000}})

    def answer(self, texts):
        self.write(*({"generate": {"id": next(number), "client": "bench", "request": {
            "messages": [{"role": "user", "content": text}], "max_tokens": PIPE_TOKENS, "sampling": SAMPLING, "stop": []}}}
            for text in texts))
        self.read_until(b'"done":', len(texts))


class ThroughServer(Pipe):
    def __init__(self):
        super().__init__([options.server, *FLAGS, "--max_queue", "1000"])

    def answer(self, texts):
        self.write(*({"jsonrpc": "2.0", "id": next(number), "method": "tools/call", "params": {"name": "chat", "arguments": {
            "text": text, "max_tokens": PIPE_TOKENS, **SAMPLING}, "_meta": {"progressToken": text}}} for text in texts))
        self.read_until(b'"result":', len(texts))


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        user, system = stat.read().rsplit(") ", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def pipe_cost():
    """The same calls to a worker alone and to one behind a server, by turns; both are loaded, one of them idles."""
    alone, through = WorkerAlone(), ThroughServer()
    texts = [f"Write a very long story, number {n}." for n in range(PIPE_CALLS)]
    for side in (alone, through):
        side.answer(texts[:2])
    seconds = {alone: [], through: []}
    before = cpu_seconds(through.process.pid)
    for run in range(options.runs * 3):
        for side in (alone, through) if run % 2 == 0 else (through, alone):
            seconds[side].append(timed(lambda: side.answer(texts))[1])
    spent = cpu_seconds(through.process.pid) - before
    report(f"MCP and pipe: {PIPE_CALLS} calls to the worker alone", "s", seconds[alone])
    report(f"MCP and pipe: {PIPE_CALLS} calls through the server", "s", seconds[through])
    report("MCP and pipe: cost, pair by pair", "%", [100 * (b / a - 1) for a, b in zip(seconds[alone], seconds[through])])
    report("MCP and pipe: the server's share of the CPUs", "%",
           [100 * spent / (sum(seconds[through]) * os.cpu_count())])
    for side in (alone, through):
        side.close()


table = []


def report(name, unit, ours, against=()):
    row = {"row": name, "unit": unit, "ours": ours, "median": statistics.median(ours)}
    if against:
        row |= {"against": list(against), "against_median": statistics.median(against)}
        row["ratio"] = row["median"] / row["against_median"]
    table.append(row)
    if options.json:
        return
    def spread(values):
        median = f"{statistics.median(values):10.1f}"
        return median if len(values) == 1 else f"{median} ({min(values):.1f} to {max(values):.1f}, {len(values)})"
    line = f"{name:44} {unit:6} {spread(ours):34}"
    if against:
        line += f" {spread(against):34} {statistics.median(ours) / statistics.median(against):6.2f}"
    print(line.rstrip(), flush=True)


def wanted(name):
    return re.search(options.rows, name)


ours = Ours()
sides = [ours] + ([Against(options.against)] if options.against else [])
try:
    if not options.json:
        print(f"{os.path.basename(model)}, {options.threads} threads, {SLOTS} at once, context {CONTEXT}; "
              f"median (least to greatest, number of values)")
        print(f"{'':44} {'':6} {'this server':34}" + (f" {'against':34}  ratio" if options.against else ""))
    tokens_per_word = 1.0
    for side in sides:
        # Loads, warms, and tells how many tokens a word is.
        tokens_per_word = side.call(long_text(400), 1)[0] / 400
    if wanted("resident memory"):
        rest = [{name: resident(pid) for name, pid in side.pids().items()} for side in sides]
    medians = {}
    for name, unit, measure in ROWS:
        if not wanted(name):
            continue
        if not options.json and sys.stderr.isatty():
            print(f"measuring: {name} ...", end="\r", file=sys.stderr)
        values = [[] for _ in sides]
        for run in range(options.runs):
            order = list(range(len(sides)))
            for side in order if run % 2 == 0 else reversed(order):
                values[side].append(measure(sides[side]))
        medians[name] = [statistics.median(of_side) for of_side in values]
        report(name, unit, *values)
    if wanted("forced JSON"):
        report("forced JSON: share of the free speed", "%", [Grammar.share(ours) for _ in range(options.runs)])
    one, eight = (medians.get(f"generation, {calls} at once") for calls in (1, 8))
    if one and eight:
        report("generation, 8 at once over 1", "ratio", *([many / single] for many, single in zip(eight, one)))
    if wanted("resident memory"):
        for side, before in zip(sides, rest):
            for _ in range(options.calls):
                side.call(f"Hi {next(number)}", 1)
            after = {name: resident(pid) for name, pid in side.pids().items()}
            for process in before:
                report(f"resident memory, {side.name}, {process}, at rest", "MiB", [before[process]])
                report(f"resident memory, {side.name}, {process}, after {options.calls} calls", "MiB", [after[process]])
finally:
    ours.stop()

if wanted("start to initialize"):
    report("start to initialize answered", "ms", [start_to_initialize() for _ in range(max(options.runs, 5) * 2)])
if wanted("tools/list while the model loads"):
    report("tools/list while the model loads", "ms", [took for _ in range(10) for took in lists_while_loading(50)])
if wanted("MCP and pipe"):
    pipe_cost()
if not table:
    sys.exit(f"no row is called like --rows {options.rows}")
if options.json:
    print(json.dumps({"model": os.path.basename(model), "threads": options.threads, "runs": options.runs, "rows": table}, indent=1))
