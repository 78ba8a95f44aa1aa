// Drives `claudemesh mcp` with the public TypeScript SDK, once in each revision. The last client then waits for a change of the
// skills that whoever runs this makes when it reads "ready".
import assert from 'node:assert/strict';
import { pathToFileURL } from 'node:url';

const load = name => import(pathToFileURL(`${process.env.MCP_SDK}/dist/esm/${name}`));
const { Client } = await load('client/index.js');
const { StdioClientTransport } = await load('client/stdio.js');
const { PromptListChangedNotificationSchema, ResourceListChangedNotificationSchema } = await load('types.js');

const URI = 'skill://claudemesh/code%2Freview';

async function connect(revision) {
  const transport = new StdioClientTransport({ command: process.env.CLAUDEMESH, args: ['mcp'], env: process.env });
  const send = transport.send.bind(transport);
  // The SDK always asks for its newest, and takes what it is given.
  transport.send = (message, ...rest) => {
    if (message.method === 'initialize') message.params.protocolVersion = revision;
    return send(message, ...rest);
  };
  let agreed;
  transport.setProtocolVersion = version => { agreed = version; };
  const client = new Client({ name: 'test', version: '1' });
  await client.connect(transport);
  assert.equal(agreed, revision);
  return client;
}

async function refused(code, promise) {
  const err = await promise.then(() => assert.fail('it was not refused'), err => err);
  assert.equal(err.code, code, err.message);
}

async function check(client) {
  assert.equal(client.getServerVersion().name, 'claudemesh');
  const capabilities = client.getServerCapabilities();
  assert.deepEqual([capabilities.prompts, capabilities.resources], [{ listChanged: true }, { listChanged: true }]);
  assert.match(client.getInstructions(), /claudemesh send/);
  await client.ping();
  assert.deepEqual((await client.listTools()).tools, []);
  const { prompts } = await client.listPrompts();
  assert.deepEqual(prompts, [{ name: 'code/review', description: 'How we "review"', arguments: [] }]);
  const prompt = await client.getPrompt({ name: 'code/review' });
  assert.equal(prompt.messages[0].content.text, '---\nmodel: "opus: \\"4\\""\n---\nRead it twice.\n');
  const { resources } = await client.listResources();
  assert.deepEqual(resources.map(({ uri, mimeType }) => [uri, mimeType]), [[URI, 'text/markdown']]);
  const { contents } = await client.readResource({ uri: URI });
  assert.match(contents[0].text, /^---\nname: "code\/review"\n[^]*\n---\nRead it twice\.\n$/);
  assert.deepEqual((await client.listResourceTemplates()).resourceTemplates, []);
  await refused(-32602, client.getPrompt({ name: 'other' }));
  await refused(-32002, client.readResource({ uri: 'skill://claudemesh/other' }));
  await refused(-32602, client.listPrompts({ cursor: 'x' }));
}

let client;
for (const revision of ['2024-11-05', '2025-03-26', '2025-06-18', '2025-11-25']) {
  await client?.close();
  client = await connect(revision);
  await check(client);
}
const told = schema => new Promise(resolve => client.setNotificationHandler(schema, resolve));
const both = Promise.all([told(PromptListChangedNotificationSchema), told(ResourceListChangedNotificationSchema)]);
console.log('ready');
await both;
console.log(JSON.stringify((await client.listPrompts()).prompts.map(prompt => prompt.name)));
await client.close();
