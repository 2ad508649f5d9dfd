"""with_langchain.py SERVER MODEL: LangChain's adapters, and its converter to Gemini's function declarations."""

import asyncio
import sys

from langchain_google_genai._function_utils import convert_to_genai_function_declarations
from langchain_mcp_adapters.client import MultiServerMCPClient

from calls import TOOLS, make_every_call, report
from gemini_schema import faults_of_all
from serving import flags, serving

server, model = sys.argv[1:]


async def accepts_every_answer(connection):
    tools = {tool.name: tool for tool in await MultiServerMCPClient({"llama": connection}).get_tools()}

    async def call(name, arguments):
        message = await tools[name].ainvoke({"type": "tool_call", "id": "1", "name": name, "args": arguments})
        assert message.status == "success", message.content
        return message.content[0]["text"], (message.artifact or {}).get("structured_content")

    faults = await make_every_call(list(tools), call)
    return faults + faults_of_all({name: declaration(tool) for name, tool in tools.items()})


def declaration(tool):
    """Returns the schema that the converter declares to Gemini."""
    [declared] = convert_to_genai_function_declarations([tool])[0].function_declarations
    return declared.parameters and declared.parameters.model_dump(mode="json", by_alias=True, exclude_none=True)


report("LangChain, stdio", asyncio.run(accepts_every_answer({"transport": "stdio", "command": server, "args": flags(TOOLS, model)})))
with serving([server, *flags(TOOLS, model)]) as url:
    report("LangChain, HTTP", asyncio.run(accepts_every_answer({"transport": "streamable_http", "url": url})))
