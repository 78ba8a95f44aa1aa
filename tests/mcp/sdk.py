"""Drives `claudemesh mcp` with the public Python SDK, once in each revision, and once as it comes: then it asks for a later
revision first, and must be content with an older one."""

import asyncio
import os

import mcp
from mcp import ClientSession, MCPError, StdioServerParameters, stdio_client
from mcp.client import session as negotiation

URI = "skill://claudemesh/code%2Freview"
SERVER = StdioServerParameters(command=os.environ["CLAUDEMESH"], args=["mcp"], env=dict(os.environ))


async def refused(code, call):
    try:
        await call
    except MCPError as err:
        assert err.error.code == code, err
    else:
        raise AssertionError("it was not refused")


async def check(client):
    assert [prompt.name for prompt in (await client.list_prompts()).prompts] == ["code/review"]
    prompt = await client.get_prompt("code/review")
    assert prompt.messages[0].content.text == '---\nmodel: "opus: \\"4\\""\n---\nRead it twice.\n', prompt
    assert [str(resource.uri) for resource in (await client.list_resources()).resources] == [URI]
    read = await client.read_resource(URI)
    assert read.contents[0].text.endswith("\n---\nRead it twice.\n"), read
    await refused(-32602, client.get_prompt("other"))
    await refused(-32002, client.read_resource("skill://claudemesh/other"))


async def main():
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]:
        negotiation.LATEST_HANDSHAKE_VERSION = revision
        async with stdio_client(SERVER) as (read, write), ClientSession(read, write) as client:
            agreed = await client.initialize()
            assert agreed.protocol_version == revision, agreed
            assert agreed.server_info.name == "claudemesh", agreed
            assert agreed.capabilities.prompts.list_changed and agreed.capabilities.resources.list_changed, agreed
            await client.send_ping()
            await check(client)
    async with mcp.Client(SERVER) as client:
        await check(client)


asyncio.run(main())
print("done")
