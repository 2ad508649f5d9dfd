"""A scripted model behind an HTTP API: it asks an agent to make every call of calls.json at once, and then answers that it is done.
It implements Google's Gemini API and OpenAI's chat completions, and records the requests."""

import contextlib
import http.server
import json
import threading

from calls import every_call


class Gemini:
    """https://ai.google.dev/api/generate-content"""

    @staticmethod
    def declarations(request):
        """Returns the schemas of the declared tools by name."""
        functions = [each for tool in request.get("tools", []) for each in tool.get("functionDeclarations", [])]
        return {each["name"]: each.get("parameters", each.get("parametersJsonSchema")) for each in functions}

    @staticmethod
    def results(request):
        """Returns the results that the agent sends for the calls, in their order."""
        parts = [part for content in request["contents"] for part in content["parts"]]
        return [part["functionResponse"]["response"] for part in parts if "functionResponse" in part]

    @staticmethod
    def answer(calls):
        parts = [{"functionCall": {"name": name, "args": arguments}} for name, arguments in calls] or [{"text": "Done."}]
        content = {"role": "model", "parts": parts}
        usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
        return {"candidates": [{"content": content, "finishReason": "STOP", "index": 0}], "usageMetadata": usage}


class OpenAi:
    """https://platform.openai.com/docs/api-reference/chat"""

    @staticmethod
    def declarations(request):
        return {tool["function"]["name"]: tool["function"]["parameters"] for tool in request.get("tools", [])}

    @staticmethod
    def results(request):
        return [message["content"] for message in request["messages"] if message["role"] == "tool"]

    @staticmethod
    def answer(calls):
        made = [
            {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for at, (name, arguments) in enumerate(calls)
        ]
        message = {"role": "assistant", "content": None, "tool_calls": made} if made else {"role": "assistant", "content": "Done."}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if made else "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return {"id": "1", "object": "chat.completion", "created": 0, "model": "scripted", "choices": [choice], "usage": usage}


def own(declared):
    """Returns the declared name of each tool of tools.toml. Some agents prefix it with the server's name, and declare other tools, too."""
    tools = {call.tool for call in every_call()}
    return {tool: name for name in declared for tool in tools if name == tool or name.endswith(f"_{tool}")}


class ScriptedModel:
    """The script, and the requests that an agent sent."""

    def __init__(self):
        self.requests = []
        self.url = ""

    def answer(self, path, request):
        """Returns the answer to a request: all calls if the agent has tools and has made no calls yet, otherwise the final text."""
        api = Gemini if "enerateContent" in path else OpenAi
        self.requests.append((api, request))
        names = own(api.declarations(request))
        calls = [(names[call.tool], call.arguments) for call in every_call() if call.tool in names]
        return api.answer([] if api.results(request) else calls)

    def declarations(self):
        """Returns the schemas that the agent declared for the tools of tools.toml."""
        all_declared = [api.declarations(request) for api, request in self.requests]
        return next(({tool: declared[name] for tool, name in own(declared).items()} for declared in all_declared if own(declared)), {})

    def faults(self):
        """Returns the faults of the tools' answers as the agent passed them on."""
        results = max((api.results(request) for api, request in self.requests), key=len, default=[])
        if len(results) != len(every_call()):
            return [f"{len(results)} answers instead of {len(every_call())}; declared are {sorted(self.declarations())}"]
        faults = []
        for call, result in zip(every_call(), results):
            try:
                call.check(text_of(result))
            except (AssertionError, ValueError) as error:
                faults.append(f"{call.tool}: {error}: {result}")
        return faults


def text_of(result):
    """Returns the tool's text from an agent's result, which is the text itself or an object that contains it."""
    if isinstance(result, str):
        with contextlib.suppress(ValueError):
            inner = json.loads(result)
            if isinstance(inner, (dict, list)) and has_content(inner):
                return text_of(inner)
        return result
    if isinstance(result, list):
        return text_of(result[0])
    for key in ("result", "output", "content", "text"):
        if key in result:
            return text_of(result[key])
    raise AssertionError(f"no text in {result}")


def has_content(value):
    part = value[0] if isinstance(value, list) and value else value
    return isinstance(part, dict) and part.get("type") == "text"


@contextlib.contextmanager
def scripted_model():
    """Serves the API on a free port of the loopback address."""
    model = ScriptedModel()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = model.answer(self.path, request)
            streams = "stream" in self.path or request.get("stream")
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream" if streams else "application/json")
            body = b"data: " + body + b"\n\n" if streams else body
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    model.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
