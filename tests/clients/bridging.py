"""Code shared by the tests of bridges: a bridge that listens on a free port."""

import contextlib
import socket
import subprocess
import tempfile
import time

LIMIT = 60


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def listens(port):
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@contextlib.contextmanager
def bridging(program, *arguments):
    """Runs a bridge and gives its URL as soon as it listens."""
    port = free_port()
    command = [*program, "--host", "127.0.0.1", "--port", str(port), *arguments]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + LIMIT
            while not listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise AssertionError(f"the bridge does not listen:\n{log.read()[-5000:]}")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()
