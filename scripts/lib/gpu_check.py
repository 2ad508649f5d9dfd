"""gpu_check.py SERVER: tests a build with a GPU backend on this machine's GPU, with models' processes in the sandbox."""

import json
import os
import pathlib
import queue
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).parents[2]
TINY = ROOT / "tests/models/tiny-crab-chat.Q8_0.gguf"
SERVER = sys.argv[1]
# Shaders are compiled on the CPU, which takes minutes on a slow machine.
LIMIT = 900
LAYERS = 4
SANDBOX = '[registry]\nsandbox = "required"\nstall_timeout = "never"\n'


class Server:
    """A server over stdio with the configuration `text`, which it watches. Its GPU driver caches shaders below `cache`."""

    def __init__(self, folder, text, cache):
        self.config = folder / "config.toml"
        self.config.write_text(text)
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        environment.pop("CACHE_DIRECTORY", None)
        self.process = subprocess.Popen(
            [SERVER, "--config", self.config], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.log, self.news = [], queue.Queue()
        threading.Thread(target=self.read_log, daemon=True).start()
        self.next = 0
        client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "check", "version": "1"}}
        self.wait_for(self.send("initialize", client))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(60)
        finally:
            self.process.kill()

    def read_log(self):
        for line in self.process.stderr:
            self.log.append(line)
            self.news.put(line)

    def send(self, method, params):
        self.next += 1
        message = {"jsonrpc": "2.0", "id": self.next, "method": method, "params": params}
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        return self.next

    def wait_for(self, request):
        for line in self.process.stdout:
            message = json.loads(line)
            if message.get("id") == request:
                return message["result"]
        raise SystemExit("".join(self.log) + "error: the server ended")

    def begin(self, tool, text, tokens):
        arguments = {"text": text, "temperature": 0, "max_tokens": tokens}
        return self.send("tools/call", {"name": tool, "arguments": arguments})

    def ask(self, tool="chat", text="What is the capital of Peru?"):
        """Returns the text of the answer, and whether it is an error."""
        result = self.wait_for(self.begin(tool, text, 64))
        return result["content"][0]["text"], result.get("isError", False)

    def expect(self, pattern):
        """Waits for a new line of the log that matches `pattern`, and returns the match."""
        end = time.monotonic() + LIMIT
        while True:
            try:
                line = self.news.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                raise SystemExit("".join(self.log) + f"error: no line with `{pattern}`") from None
            if found := re.search(pattern, line):
                return found


def check(holds, what):
    if not holds:
        sys.exit(f"error: {what}")
    print(f"ok: {what}", flush=True)


def model(name, layers, more=""):
    return f'[models.{name}]\npath = "{TINY}"\nn_gpu_layers = {layers}\ndeadline = "{LIMIT}s"\n{more}\n'


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        cache = folder / "cache"
        cache.mkdir()
        free = machine_has_a_gpu()
        first = shader_cache_is_used(folder, cache)
        text_is_the_same_with_any_layers(folder, cache, first)
        two_models_share_it(folder, cache)
        killed_process_is_started_again(folder, cache)
        edit_of_layers_is_applied(folder, cache)
        too_large_a_model_is_refused(folder, cache)
        auto_offloads_the_layers_that_fit(folder, free)


def machine_has_a_gpu():
    """Returns the bytes of free memory of the first GPU."""
    found = subprocess.run([SERVER, "doctor"], capture_output=True, text=True).stdout
    devices = [line for line in found.splitlines() if " gpu: " in line]
    check("memory of its own" in "".join(devices), f"doctor shows a GPU: {devices}")
    number, unit = re.search(r"([\d.]+) (\w+) free", devices[0]).groups()
    return int(float(number) * {"MiB": 1 << 20, "GiB": 1 << 30}[unit])


def shader_cache_is_used(folder, cache):
    """Returns the answer that the GPU computed."""
    times, answers = [], []
    for _ in range(2):
        with Server(folder, SANDBOX + model("chat", 99), cache) as server:
            begin = time.monotonic()
            answers.append(server.ask())
            times.append(time.monotonic() - begin)
    (text, is_error), kept = answers[0], [path for path in cache.rglob("*") if path.is_file()]
    check(not is_error and answers[1] == answers[0], f"a GPU answers inside the sandbox: {text}")
    check(kept, f"the driver keeps {sum(path.stat().st_size for path in kept) / 2**20:.1f} MiB of shaders")
    check(times[1] < times[0], f"the second start is faster: {times[0]:.1f} s, then {times[1]:.1f} s until the answer")
    return text


def text_is_the_same_with_any_layers(folder, cache, expected):
    for layers in (99, '"auto"', 1, 0):
        with Server(folder, SANDBOX + model("chat", layers), cache) as server:
            found = server.ask()
            output = "".join(server.log)
            offloaded = re.search(r"gpu_layers=(\d+)", output)
        check(found == (expected, False), f"n_gpu_layers = {layers} gives the same text")
        count = int(offloaded[1]) if offloaded else 0
        expected_count = LAYERS if layers == '"auto"' else min(layers, LAYERS)
        check(count == expected_count, f"{count} of {LAYERS} layers were offloaded")


def two_models_share_it(folder, cache):
    with Server(folder, SANDBOX + model("one", 99) + model("two", 99), cache) as server:
        requests = [server.begin(tool, "What is the capital of Peru?", 64) for tool in ("one", "two")]
        results = {}
        while len(results) < 2:
            message = json.loads(server.process.stdout.readline())
            if message.get("id") in requests:
                results[message["id"]] = message["result"]
    texts = {result["content"][0]["text"] for result in results.values()}
    check(len(texts) == 1 and not any(result.get("isError") for result in results.values()), "two models share the GPU")


def killed_process_is_started_again(folder, cache):
    with Server(folder, SANDBOX + model("chat", 99), cache) as server:
        before = server.ask()
        pid = int(server.expect(r" loading.*pid=(\d+)|pid=(\d+).* loading").group(1))
        request = server.begin("chat", "Count to a thousand.", 2000)
        os.kill(pid, signal.SIGKILL)
        server.wait_for(request)
        check(server.ask() == before, "a model answers again after its process was killed")


def edit_of_layers_is_applied(folder, cache):
    with Server(folder, SANDBOX + model("chat", 99), cache) as server:
        before = server.ask()
        server.expect("gpu_layers=4")
        edited = folder / "edited.toml"
        edited.write_text(SANDBOX + model("chat", 1))
        edited.rename(server.config)
        server.expect("the new configuration is active")
        check(server.ask() == before, "an edit of `n_gpu_layers` does not change the text")
        server.expect("gpu_layers=1")
        check(True, "the edited number of layers was offloaded")


def too_large_a_model_is_refused(folder, cache):
    large = folder / "large.gguf"
    write_model(large, 1, 1 << 42)
    text = f'[registry]\nmemory_budget = "{1 << 20}GiB"\n[models.chat]\npath = "{large}"\n'
    config = folder / "large.toml"
    config.write_text(text)
    found = subprocess.run([SERVER, "config", "check", "--config", config], capture_output=True, text=True)
    output = found.stdout + found.stderr
    check(found.returncode != 0 and "of GPU memory" in output and "n_gpu_layers" in output, f"4 TiB of weights are refused: {output.strip()}")
    with Server(folder, text, cache) as server:
        text, is_error = server.ask()
    check(is_error and "of GPU memory" in text, f"the error of a call names GPU memory: {text}")


def auto_offloads_the_layers_that_fit(folder, free):
    model = folder / "layers.gguf"
    write_model(model, 8, free // 3)
    config = folder / "layers.toml"
    config.write_text(f'[registry]\nmemory_budget = "{1 << 20}GiB"\n[models.chat]\npath = "{model}"\nn_gpu_layers = "auto"\n')
    found = subprocess.run([SERVER, "config", "check", "--config", config], capture_output=True, text=True)
    output = found.stdout + found.stderr
    layers = re.search(r"GPU: (\d) of 9 layers", output)
    check(found.returncode == 0 and layers and 0 < int(layers[1]) < 4, f"of 8 layers, each a third of the GPU, few are offloaded: {output.strip()}")


def write_model(path, layers, weights):
    """Writes a GGUF with layers of `weights` bytes each. Its data is a hole in the file."""
    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    def number(key, value):
        return text(key) + struct.pack("<II", 4, value)

    keys = {"block_count": layers, "context_length": 512, "embedding_length": 64, "feed_forward_length": 64}
    heads = {"attention.head_count": 1, "attention.head_count_kv": 1}
    pairs = [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
    pairs += [number(f"llama.{key}", value) for key, value in {**keys, **heads}.items()]
    pairs.append(text("tokenizer.ggml.model") + struct.pack("<I", 8) + text("gpt2"))
    width = 1 << 12
    rows = weights // 4 // width
    tensors = [
        text(f"blk.{layer}.ffn_up.weight") + struct.pack("<IQQIQ", 2, width, rows, 0, layer * rows * width * 4)
        for layer in range(layers)
    ]
    header = b"GGUF" + struct.pack("<IQQ", 3, layers, len(pairs)) + b"".join(pairs) + b"".join(tensors)
    with open(path, "wb") as file:
        file.write(header)
        file.truncate(len(header) + 64 + layers * rows * width * 4)


main()
