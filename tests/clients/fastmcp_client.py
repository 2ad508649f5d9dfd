"""fastmcp_client.py SERVER MODEL: FastMCP's client over stdio and HTTP."""

import asyncio
import sys

from fastmcp import Client
from fastmcp.client.transports import StdioTransport

from calls import TOOLS, make_every_call, report
from serving import flags, serving

server, model = sys.argv[1:]


async def accepts_every_answer(target):
    async with Client(target) as client:

        async def call(tool, arguments):
            result = await client.call_tool(tool, arguments)
            # FastMCP converts structured values, strings to dates for example. It logs the reason if it cannot.
            assert result.structured_content is None or result.data is not None, f"no typed value of {result.structured_content}"
            return result.content[0].text, result.structured_content

        return await make_every_call([tool.name for tool in await client.list_tools()], call)


report("FastMCP, stdio", asyncio.run(accepts_every_answer(StdioTransport(server, flags(TOOLS, model)))))
with serving([server, *flags(TOOLS, model)]) as url:
    report("FastMCP, HTTP", asyncio.run(accepts_every_answer(url)))
