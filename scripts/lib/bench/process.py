"""Measures processes, and talks to processes that read and write lines of JSON."""

import functools
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from setting import CONTEXT, SAMPLING, SLOTS
from texts import number


def timed(work):
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def all_at_once(ask, questions, most=None):
    """Returns the answers, and the seconds until all have arrived. At most `most` questions are asked at once."""
    with ThreadPoolExecutor(most or len(questions)) as pool:
        return timed(lambda: list(pool.map(ask, questions)))


def resident(*pids):
    """Returns the MiB of resident memory of these processes. Pages that several processes map are divided among them (PSS), since a
    server and its worker are the same program."""
    def kib(pid):
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            return next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    return sum(map(kib, pids)) / 1024


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        user, system = stat.read().rsplit(") ", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def wait_until_idle(pid):
    """Waits until the process has used no CPU for a second. The kernel's clock limits the precision."""
    used, since = cpu_seconds(pid), time.perf_counter()
    end = since + 60
    while time.perf_counter() - since < 1:
        time.sleep(0.05)
        if time.perf_counter() > end:
            sys.exit("error: the server does not become idle")
        if (now := cpu_seconds(pid)) != used:
            used, since = now, time.perf_counter()


def flags(options, slots=SLOTS):
    return ["--model", options.model, "--parallel", str(slots), "--n_ctx", str(CONTEXT), "--n_threads", str(options.threads)]


def rpc(method, params):
    return {"jsonrpc": "2.0", "id": next(number), "method": method, "params": params}


@functools.cache
def spin_count(server):
    """Returns the spin count that `doctor` of this server shows for this machine, or 1000 if it shows none."""
    found = subprocess.run([server, "doctor"], stdout=subprocess.PIPE, text=True, check=False).stdout
    spins = re.search(r"they spin (\d+) times", found)
    return spins[1] if spins else "1000"


class Pipe:
    """A process that reads and writes lines of JSON."""

    def __init__(self, command):
        # The variables that the server sets for its workers. Without them, a worker alone would spin longer and be slower than behind a server.
        environment = {"GOMP_SPINCOUNT": spin_count(command[0]), "MALLOC_TRIM_THRESHOLD_": "1048576", **os.environ}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        env=environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate()

    def write(self, *messages):
        self.process.stdin.write("".join(json.dumps(message) + "\n" for message in messages).encode())
        self.process.stdin.flush()

    def read(self):
        line = next(self.process.stdout, b'"error": the process has ended')
        # An empty answer is an error, too, but it was generated.
        is_error = b'"isError":true' in line and b'"completion_tokens":' not in line
        if is_error or b'"error":' in line or b'"failed":' in line:
            sys.exit(f"a call failed: {line.decode()}")
        return line

    def read_until(self, member, times=1):
        """Reads until `member` has occurred `times` times. Does not parse the lines, which would take time. Quotes in texts are
        escaped, so a text is never taken for a member."""
        while times > 0:
            times -= member in self.read()


class WorkerAlone(Pipe):
    """A model's process, without the server."""

    def __init__(self, options, slots=SLOTS, context=CONTEXT):
        super().__init__([options.server, "worker"])
        self.write({"load": {"settings": {"path": options.model, "n_gpu_layers": 99, "n_ctx": context, "n_batch": 2048,
                                          "n_threads": options.threads, "parallel": slots, "max_queue": 1000}}})

    def generate(self, *texts, max_tokens):
        calls = [{"id": next(number), "client": "bench", "request": {"generate": {
                  "messages": [{"role": "user", "content": text}], "max_tokens": max_tokens, "sampling": SAMPLING, "stop": []}}}
                 for text in texts]
        self.write(*({"call": call} for call in calls))
        return [call["id"] for call in calls]

    def news(self):
        """Returns the next update of a call: its id, and the members of the update."""
        while True:
            event = json.loads(self.read())
            if "call" in event and isinstance(event["call"]["update"], dict):
                return event["call"]["id"], SimpleNamespace(**{"delta": None, "done": None, **event["call"]["update"]})


class OverStdio(Pipe):
    """A server over stdio that was just started, so its model is still loading."""

    def __init__(self, options, config=None):
        settings = ["--config", config] if config else [*flags(options), "--max_queue", "1000"]
        super().__init__([options.server, *settings])
