/**
 *     node new-tool.ts PERSON NAME TITLE
 *
 * Asks whether a name is free, creates a tool, and waits until it can be used. The environment: API_URL, REALM, PORTAL,
 * PORTAL_KID and PORTAL_KEY, the file of the portal's key.
 */
import { readFileSync } from 'node:fs';
import { Client } from 'chamberlain-client';

const { API_URL = '', REALM = '', PORTAL = '', PORTAL_KID = '', PORTAL_KEY = '' } = process.env;
const [person = '', name = '', title = ''] = process.argv.slice(2);
const client = new Client({
  ...{ url: API_URL, realm: REALM, portal: PORTAL, kid: PORTAL_KID },
  key: readFileSync(PORTAL_KEY),
});
const fields = { requestedBy: person, name, title };
const asked = await client.check('tool.create', fields);
if (asked.verdict === 'refused') end(`${asked.code}: ${asked.sentence}`);
const request = client.sign('tool.create', fields);
console.log('sending', request.id); // a portal keeps the request, to send it again if it is interrupted
const outcome = await client.wait(request);
if (!outcome.done) end(`${outcome.code ?? 'not done yet'}: ${outcome.sentence ?? request.id}`);
console.log(name, 'can be used');

function end(reason: string): never {
  console.error(reason);
  process.exit(1);
}
