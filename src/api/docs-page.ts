/** The page /docs: the OpenAPI document, and the codes of problems, for people. It needs no other file. Pure. */
import { createHash } from 'node:crypto';
import { CODES } from '../shared/errors.ts';
import type { OpenApi, Operation } from './document.ts';

const STYLE = `
body { font: 1rem/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font-family: monospace; } pre { background: #f4f4f4; padding: .5rem; overflow: auto; }
h2 { border-top: 1px solid #ccc; padding-top: 1rem; } dt { font-weight: bold; margin-top: .5rem; }
summary { cursor: pointer; }
`;
const hash = createHash('sha256').update(STYLE).digest('base64');
/** The page loads nothing and runs nothing. */
export const CONTENT_POLICY = `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;

/** In short: docs/api.md is not on this server. */
const SIGNING = `<h2 id="signing">How to sign a call</h2>
<p>Send the header <code>Authorization: Chamberlain TOKEN</code>. The token is a JWT
(<a href="https://www.rfc-editor.org/rfc/rfc7519">RFC 7519</a>) for this call alone, signed with EdDSA by the key of
your portal. Its header and its claims, of <code>GET /v1/names/alice?of=person</code>:</p>
<pre>{"alg": "EdDSA", "kid": "portal-1"}
{"iss": "portal", "aud": "tools/api", "jti": "any new text", "iat": 1764547200, "exp": 1764547260,
 "htm": "GET", "htu": "/v1/names/alice?of=person"}</pre>
<p><code>aud</code> is the name of the realm and <code>/api</code>, <code>exp</code> is at most 300 s after
<code>iat</code>, and <code>htu</code> is the path with the query, exactly as it is sent. The operator of the realm
tells you your portal's name and <code>kid</code>. The token of a request to change something
(<a href="#POST/v1/requests"><code>POST /v1/requests</code></a>) has a signature of its own. docs/api.md of Chamberlain
has a whole example in Node, and clients/python a client.</p>`;

export function renderPage({ info, paths }: OpenApi): string {
  const operations = Object.entries(paths).flatMap(([path, of]) =>
    Object.entries(of).map(([method, operation]) => renderOperation(method, path, operation)),
  );
  const codes = Object.entries(CODES).map(
    ([code, { meaning, action }]) =>
      `<dt id="${code}"><code>${code}</code></dt><dd>${html(meaning)} ${html(action)}</dd>`,
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${html(info.title)}</title><style>${STYLE}</style></head>
<body><h1>${html(info.title)}</h1>
<p>${html(info.description ?? '')} The same for programs: <a href="/openapi.json">/openapi.json</a>.</p>
${SIGNING}
${operations.join('\n')}
<h2>Codes</h2>
<dl>${codes.join('\n')}</dl>
</body></html>
`;
}

function renderOperation(method: string, path: string, operation: Operation): string {
  const { summary = '', description = '', parameters = [], requestBody, responses } = operation;
  const fields = parameters.map(
    ({ name, in: where, required, schema }) =>
      `<dt><code>${html(name)}</code> (${where}${required === true ? '' : ', optional'})</dt><dd>${renderSchema(schema)}</dd>`,
  );
  const bodies = Object.entries(requestBody?.content ?? {}).map(
    ([type, { schema }]) =>
      `<dt>body, <code>${html(type)}</code></dt><dd>${renderSchema(schema)}</dd>`,
  );
  const answers = Object.entries(responses).map(
    ([status, answer]) =>
      `<dt>${status}</dt><dd>${html(answer.description)}${renderSchema(schemaOf(answer))}</dd>`,
  );
  const texts = description.split('\n\n').map((text) => `<p>${html(text)}</p>`);
  return `<h2 id="${html(`${method.toUpperCase()}${path}`)}"><code>${method.toUpperCase()} ${html(path)}</code></h2>
<p>${html(summary.replace(/^./u, (first) => first.toUpperCase()))}.</p>${texts.join('')}
<dl>${[...fields, ...bodies, ...answers].join('\n')}</dl>`;
}

function schemaOf(answer: object): unknown {
  const { content = {} } = answer as { content?: Record<string, { schema?: unknown }> };
  return Object.values(content)[0]?.schema;
}

function renderSchema(schema: unknown): string {
  if (schema === undefined) return '';
  const text = html(JSON.stringify(schema, undefined, 2));
  return `<details><summary>schema</summary><pre>${text}</pre></details>`;
}

function html(text: string): string {
  const names: Record<string, string> = { '&': 'amp', '<': 'lt', '>': 'gt', '"': 'quot' };
  return text.replaceAll(/[&<>"]/gu, (letter) => `&${names[letter]};`);
}
