"""Code shared by the Python programs in this folder: a configuration that can be edited, and a server over HTTP."""

import contextlib
import pathlib
import re
import signal
import subprocess
import tempfile
import threading
import urllib.parse


@contextlib.contextmanager
def editable(original):
    """Gives a copy of a configuration. `edit` raises the number in its `Edition 0`."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder, "server.toml")
        copy.write_text(pathlib.Path(original).read_text())
        yield copy


def flags(config, model):
    """Returns the flags that serve `config` with the model at the path `model`."""
    return ["--config", str(config), "--set", f"models.chat.path={pathlib.Path(model).resolve()}"]


def edit(config):
    text = config.read_text()
    config.write_text(re.sub(r"Edition (\d+)", lambda found: f"Edition {int(found[1]) + 1}", text))


def start(command, port=0, on_log=lambda line: None):
    """Starts a server over HTTP on `port`, or on a free one. Returns the process and its URL."""
    process = subprocess.Popen([*command, "--transport", "http", "--port", str(port)], stderr=subprocess.PIPE, text=True)
    url = next((found[1] for line in process.stderr if (found := re.search(r"listening on (\S+)", line))), None)
    if not url:
        process.kill()
        process.wait()
        raise AssertionError("the server does not listen")
    threading.Thread(target=lambda: [on_log(line) for line in process.stderr], daemon=True).start()
    return process, url


@contextlib.contextmanager
def serving(command, on_log=lambda line: None):
    """Runs a server over HTTP on a free port, gives its URL, and stops it with SIGTERM. The server must exit with 0."""
    process, url = start(command, on_log=on_log)
    try:
        yield url
    finally:
        process.terminate()
        process.wait()
    assert process.returncode == 0, process.returncode


@contextlib.contextmanager
def restartable(command):
    """Runs a server over HTTP on a free port. Gives its URL, and a function that stops it with a signal and starts it again on
    the same port."""
    process, url = start(command)
    port = urllib.parse.urlsplit(url).port

    def restart(number=signal.SIGKILL):
        nonlocal process
        process.send_signal(number)
        process.wait()
        process, _ = start(command, port)

    try:
        yield url, restart
    finally:
        process.kill()
        process.wait()
