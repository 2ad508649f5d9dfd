"""python_mcp1.py SERVER MODEL: the official Python client, version 1, over stdio and HTTP."""

import asyncio
import os
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client

from calls import TOOLS, make_every_call, report
from serving import flags, serving


def over_stdio(command):
    program, *arguments = command
    return stdio_client(StdioServerParameters(command=program, args=arguments, env={**os.environ, "RUST_LOG": "warn"}))


def over_http(url):
    return streamablehttp_client(url)


async def make_calls(connection):
    async with connection as (read, write, *_), ClientSession(read, write) as session:
        assert (await session.initialize()).protocolVersion == "2025-11-25"

        async def call(tool, arguments):
            result = await session.call_tool(tool, arguments)
            assert not result.isError, result.content[0].text
            return result.content[0].text, result.structuredContent

        return await make_every_call([tool.name for tool in (await session.list_tools()).tools], call)


def accepts_every_answer(connection):
    return asyncio.run(make_calls(connection))


if __name__ == "__main__":
    server, model = sys.argv[1:]
    report("Python 1, stdio", accepts_every_answer(over_stdio([server, *flags(TOOLS, model)])))
    with serving([server, *flags(TOOLS, model)]) as url:
        report("Python 1, HTTP", accepts_every_answer(over_http(url)))
