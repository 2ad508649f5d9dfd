"""How the server itself grows with models, connections and tools. No model is loaded, except for calls beside connections."""

import os
import re
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

from process import OverStdio, resident, rpc, timed
from sides import Ours, config_file, connect, plain_tool, send
from texts import story

REQUESTS = 100


def typical(request):
    """Returns the median time of a request in milliseconds."""
    return 1000 * statistics.median(timed(request)[1] for _ in range(REQUESTS))


def listing(server):
    """Returns a request for the list of tools over stdio."""
    def ask():
        server.write(rpc("tools/list", {}))
        server.read_until(b'"inputSchema"')
    return ask


def many_models(options, models):
    """Returns the time from the start to the answer of `initialize`, that of `tools/list`, and the memory of the server."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        tables = {}
        for number in range(models):
            link = Path(folder, f"{number}.gguf")
            link.symlink_to(os.path.abspath(options.model))
            tables[f"models.m{number}"] = {"path": str(link)}
        file = stack.enter_context(config_file(tables))

        def start():
            server = stack.enter_context(OverStdio(options, file.name))
            server.write(rpc("initialize", {}))
            server.read_until(b'"serverInfo"')
            return server

        server, seconds = timed(start)
        return seconds * 1000, typical(listing(server)), resident(server.process.pid)


class Client:
    """A connection that stays open, with a session of its own."""

    def __init__(self, url):
        self.connection, self.headers = connect(url), {}
        headers, _ = self.request("initialize", {})
        self.headers = {"Mcp-Session-Id": headers["Mcp-Session-Id"]}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def request(self, method, params):
        response = send(self.connection, "/mcp", rpc(method, params), self.headers)
        return response.headers, response.read()

    def open_stream(self):
        self.connection.request("GET", "/mcp", headers={"Accept": "text/event-stream", **self.headers})
        self.stream = self.connection.getresponse()
        assert self.stream.status == 200, self.stream.read()


def beside(options, count, open_client):
    """Returns the memory of each of `count` clients, and the times of a list and of a short call beside them."""
    tables = {"server": {"max_connections": count + 100, "max_sessions": count + 100, "idle_time": "10m"},
              "models.chat": {"path": os.path.abspath(options.model), "n_threads": options.threads}}
    with Ours.configured(options, tables) as server, ExitStack() as clients:
        server.call("Hi", 1)
        for _ in range(REQUESTS):
            Client(server.url).__exit__()
        before = resident(server.process.pid)
        for _ in range(count):
            open_client(clients.enter_context(Client(server.url)))
        memory = resident(server.process.pid) - before
        caller = clients.enter_context(Client(server.url))
        listed = typical(lambda: caller.request("tools/list", {}))
        called = statistics.median(timed(lambda: server.call(story(), 1))[1] for _ in range(10))
        return 1024 * memory / count, listed, 1000 * called


def idle_connections(options, count):
    return beside(options, count, lambda client: None)


def event_streams(options, count):
    return beside(options, count, Client.open_stream)


def lists(options, tools):
    """Returns the times of `tools/list` over a persistent HTTP connection and over stdio, and the size of the list."""
    tables = {"models.chat": {"path": os.path.abspath(options.model)}}
    for number in range(tools - 1):
        tables |= {f"tools.t{number}": {"model": "chat", "description": f"Answers questions of kind {number}.", **plain_tool("Be brief.", 8)},
                   f"tools.t{number}.arguments.question": {"description": "What is asked."}}
    with Ours.configured(options, tables) as server, Client(server.url) as client:
        over_http = typical(lambda: client.request("tools/list", {}))
        _, text = client.request("tools/list", {})
    with config_file(tables) as file, OverStdio(options, file.name) as server:
        server.write(rpc("initialize", {}))
        server.read_until(b'"serverInfo"')
        over_stdio = typical(listing(server))
    return over_http, over_stdio, len(text) / 1024
