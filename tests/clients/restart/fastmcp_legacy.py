"""fastmcp_legacy.py URL TOKEN: asks each line of stdin with FastMCP's client, in one session of a legacy revision."""

import asyncio
import inspect
import sys

from fastmcp import Client

url, token = sys.argv[1:]
# Version 3 knows no other revisions.
mode = {"mode": "legacy"} if "mode" in inspect.signature(Client).parameters else {}


async def main():
    async with Client(url, auth=token, **mode) as client:
        while line := await asyncio.to_thread(sys.stdin.readline):
            result = await client.call_tool("chat", {"text": line.strip()})
            print(result.content[0].text, flush=True)


asyncio.run(main())
