"""google_genai.py SERVER MODEL: the Google Gen AI SDK for Python, whose converter makes Gemini's function declarations of the tools."""

import asyncio
import sys

from google import genai
from google.genai import types
from google.genai._mcp_utils import mcp_to_gemini_tool
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from calls import TOOLS, brief, report
from gemini_schema import faults_of_all
from scripted_model import scripted_model
from serving import flags

server, model = sys.argv[1:]


def convert(tools):
    """Returns the converted tools, and the faults. One tool that cannot be converted would lose the SDK the whole list."""
    converted, faults = [], []
    for tool in tools:
        try:
            converted.append(mcp_to_gemini_tool(tool))
        except Exception as error:
            faults.append(f"{tool.name}: {brief(error)}")
    return converted, faults


async def make_calls(client, session, tools):
    """Asks the model what to call, calls that, and tells the model the answers."""

    async def ask():
        return await client.aio.models.generate_content(model="gemini-2.5-flash", contents=contents, config=config)

    config = types.GenerateContentConfig(tools=tools)
    contents = [types.Content(role="user", parts=[types.Part(text="Do it.")])]
    answer = await ask()
    contents.append(answer.candidates[0].content)
    for call in answer.function_calls:
        result = await session.call_tool(call.name, call.args)
        part = types.Part.from_function_response(name=call.name, response={"result": result.content[0].text})
        contents.append(types.Content(role="user", parts=[part]))
    assert (await ask()).text == "Done."


async def run(scripted):
    client = genai.Client(api_key="none", http_options=types.HttpOptions(base_url=scripted.url))
    async with stdio_client(StdioServerParameters(command=server, args=flags(TOOLS, model))) as streams, ClientSession(*streams) as session:
        await session.initialize()
        tools, faults = convert((await session.list_tools()).tools)
        if faults:
            return faults
        await make_calls(client, session, tools)
    return faults_of_all(scripted.declarations()) + scripted.faults()


with scripted_model() as scripted:
    report("google-genai", asyncio.run(run(scripted)))
