"""python_mcp.py SERVER MODEL: the official Python client over stdio and HTTP, in the modes in which it opens a server."""

import asyncio
import re
import subprocess
import sys

from mcp import Client, StdioServerParameters

server, model = sys.argv[1:]
flags = ["--model", model, "--n_threads", "1", "--repeat_penalty", "1"]


async def converse(transport, mode):
    progress = []

    async def on_progress(done, total, message):
        progress.append((done, message))

    async with Client(transport, mode=mode) as client:
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == ["chat"], tools
        schema = tools[0].input_schema if hasattr(tools[0], "input_schema") else tools[0].inputSchema
        assert schema["type"] == "object"

        result = await client.call_tool("chat", {"text": "What is the capital of Peru?", "temperature": 0})
        assert result.content[0].text == "The capital of Peru is Lima.", result

        refused = await client.call_tool("chat", {"text": "Hi", "top_p": 7})
        is_error = refused.is_error if hasattr(refused, "is_error") else refused.isError
        assert is_error and "`top_p`" in refused.content[0].text, refused

        sung = await client.call_tool(
            "chat", {"text": "Sing forever.", "temperature": 0, "max_tokens": 4000, "deadline": 1.8}, progress_callback=on_progress)
        assert sung.content[0].text.startswith("la la"), sung
        assert len(progress) >= 2 and progress == sorted(progress), progress
        assert "la la" in progress[-1][1], progress

        # A client that gives up: its call is cancelled, the next is served.
        giving_up = client.call_tool("chat", {"text": "Sing forever.", "temperature": 0, "max_tokens": 4000})
        try:
            await asyncio.wait_for(giving_up, 0.7)
            raise AssertionError("it did not time out")
        except TimeoutError:
            pass
        several = [client.call_tool("chat", {"text": f"What is the capital of {country}?", "temperature": 0})
                   for country in ("France", "Cuba", "Kenya")]
        answers = [answer.content[0].text for answer in await asyncio.gather(*several)]
        expected = [f"The capital of {place}." for place in ("France is Paris", "Cuba is Havana", "Kenya is Nairobi")]
        assert answers == expected, answers

        try:
            await client.call_tool("no_such_tool", {})
            raise AssertionError("an unknown tool was called")
        except AssertionError:
            raise
        except Exception as error:
            assert "no_such_tool" in str(error), error


for mode in ("auto", "legacy"):
    asyncio.run(converse(StdioServerParameters(command=server, args=flags), mode))
    print(f"stdio, mode {mode}: ok")

process = subprocess.Popen([server, *flags, "--transport", "http", "--port", "0"], stderr=subprocess.PIPE, text=True)
try:
    url = next(found[1] for line in process.stderr if (found := re.search(r"listening on (\S+)", line)))
    for mode in ("auto", "legacy"):
        asyncio.run(converse(url, mode))
        print(f"HTTP, mode {mode}: ok")
finally:
    process.terminate()
assert process.wait() == 0, process.returncode
