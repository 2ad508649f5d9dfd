"""python_mcp.py SERVER MODEL: the official Python client over stdio and HTTP, in each of its connection modes."""

import asyncio
import contextlib
import pathlib
import sys
import time

from mcp import Client, MCPError, StdioServerParameters
from mcp.types import ToolListChangedNotification

from calls import TOOLS, make_every_call, report
from serving import edit, editable, flags, restartable, serving

server, model = sys.argv[1:]
# Each mode, and the revision that it must negotiate.
modes = {"auto": "2026-07-28", "legacy": "2025-11-25", "2026-07-28": "2026-07-28"}
# Ten abandoned songs, one at a time, would take longer.
SOON = 10


def capital(client, country):
    return client.call_tool("chat", {"text": f"What is the capital of {country}?"})


async def lists_and_calls(client):
    [tool] = (await client.list_tools()).tools
    assert (tool.name, tool.input_schema["type"]) == ("chat", "object"), tool
    result = await capital(client, "Peru")
    assert result.content[0].text == "The capital of Peru is Lima.", result
    refused = await client.call_tool("chat", {"text": "Hi", "top_p": 7})
    assert refused.is_error and "`top_p`" in refused.content[0].text, refused


async def does_not_know_a_tool(client):
    try:
        await client.call_tool("no_such_tool", {})
    except MCPError as error:
        assert error.code == -32602 and "no_such_tool" in str(error), error
    else:
        raise AssertionError("an unknown tool was called")


async def hears_progress(client):
    progress = []

    async def on_progress(done, total, message):
        progress.append((done, message))

    sung = await client.call_tool("chat", {"text": "Sing forever.", "deadline": 1.8}, progress_callback=on_progress)
    assert sung.content[0].text.startswith("la la"), sung
    assert len(progress) >= 2 and progress == sorted(progress), progress
    assert "la la" in progress[-1][1], progress


async def frees_the_model_when_it_gives_up(client):
    singing = asyncio.Event()

    async def on_progress(done, total, message):
        if "la la" in message:
            singing.set()

    songs = [asyncio.create_task(client.call_tool("chat", {"text": "Sing forever."}, progress_callback=on_progress)) for _ in range(10)]
    await singing.wait()
    for song in songs:
        song.cancel()
    several = asyncio.gather(*(capital(client, country) for country in ("France", "Cuba", "Kenya")))
    answers = await asyncio.wait_for(several, SOON)
    expected = [f"The capital of {place}." for place in ("France is Paris", "Cuba is Havana", "Kenya is Nairobi")]
    assert [answer.content[0].text for answer in answers] == expected, answers
    ended = await asyncio.gather(*songs, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


async def hears_of_an_edit(client, config, changed):
    assert (await client.list_tools()).tools[0].description.startswith("Edition 0.")
    if client.protocol_version == "2026-07-28":
        async with client.listen(tools_list_changed=True) as subscription:
            edit(config)
            async with asyncio.timeout(SOON):
                await anext(aiter(subscription))
    else:
        edit(config)
        await asyncio.wait_for(changed.wait(), SOON)
    assert (await client.list_tools()).tools[0].description.startswith("Edition 1.")


async def converse(transport, mode, config):
    changed = asyncio.Event()

    async def on_message(message):
        if isinstance(message, ToolListChangedNotification):
            changed.set()

    async with Client(transport, mode=mode, message_handler=on_message) as client:
        assert client.protocol_version == modes[mode], client.protocol_version
        await lists_and_calls(client)
        await does_not_know_a_tool(client)
        await hears_progress(client)
        await frees_the_model_when_it_gives_up(client)
        await hears_of_an_edit(client, config, changed)


async def accepts_every_answer(transport, mode):
    async with Client(transport, mode=mode) as client:

        async def call(tool, arguments):
            result = await client.call_tool(tool, arguments)
            assert not result.is_error, result.content[0].text
            return result.content[0].text, result.structured_content

        return await make_every_call([tool.name for tool in (await client.list_tools()).tools], call)


async def goes_on_after_a_restart(url, restart, mode):
    async with Client(url, mode=mode) as client:
        for _ in range(2):
            await lists_and_calls(client)
            await hears_progress(client)
            await asyncio.to_thread(restart)
        await lists_and_calls(client)


for mode in modes:
    for kind in ("stdio", "HTTP"):
        with editable(pathlib.Path(__file__).with_name("server.toml")) as config, contextlib.ExitStack() as stack:

            def transport(config):
                if kind == "HTTP":
                    return stack.enter_context(serving([server, *flags(config, model)]))
                return StdioServerParameters(command=server, args=flags(config, model), env={"RUST_LOG": "warn"})

            begun = time.monotonic()
            asyncio.run(converse(transport(config), mode, config))
            print(f"Python, {kind}, mode {mode}: ok, {time.monotonic() - begun:.1f} s", flush=True)
            report(f"Python, {kind}, mode {mode}", asyncio.run(accepts_every_answer(transport(TOOLS), mode)))
    with restartable([server, "--model", model, "--temperature", "0", "--repeat_penalty", "1"]) as (url, restart):
        begun = time.monotonic()
        asyncio.run(goes_on_after_a_restart(url, restart, mode))
        print(f"Python, HTTP, mode {mode}, restarts: ok, {time.monotonic() - begun:.1f} s")
