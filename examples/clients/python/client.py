# /// script
# dependencies = ["mcp==2.3.0"]
# ///
"""Calls the first tool of a server, and shows its progress.

    python client.py QUESTION COMMAND [ARGUMENT…]       starts a server and talks to it over stdio
    python client.py QUESTION http://127.0.0.1:8080/mcp  connects to a running server; LLAMA_MCP_AUTH is the token
"""

import asyncio
import os
import sys

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client


async def on_progress(seconds, total, message):
    print(f"{seconds:6.1f} s  {' '.join((message or '').split())[-70:]}", file=sys.stderr)


async def ask(server, question):
    async with Client(server) as client:
        tool = (await client.list_tools()).tools[0]
        return await client.call_tool(tool.name, {"text": question}, progress_callback=on_progress)


async def main(question, where, *arguments):
    if where.startswith("http"):
        token = os.environ.get("LLAMA_MCP_AUTH")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # While a model loads or writes, the server sends progress every few seconds. The default timeout is five seconds.
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            result = await ask(streamable_http_client(where, http_client=http), question)
    else:
        result = await ask(StdioServerParameters(command=where, args=arguments), question)
    print(result.content[0].text)
    return 1 if result.is_error else 0


if len(sys.argv) < 3:
    sys.exit(__doc__)
sys.exit(asyncio.run(main(*sys.argv[1:])))
