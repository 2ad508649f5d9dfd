"""mcp_1.py URL TOKEN: asks each line of stdin with the official Python client, version 1, in one session."""

import asyncio
import sys

from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

url, token = sys.argv[1:]


async def main():
    headers = {"Authorization": f"Bearer {token}"}
    async with streamablehttp_client(url, headers=headers) as (read, write, _), ClientSession(read, write) as session:
        await session.initialize()
        while line := await asyncio.to_thread(sys.stdin.readline):
            result = await session.call_tool("chat", {"text": line.strip()})
            print(result.content[0].text, flush=True)


asyncio.run(main())
