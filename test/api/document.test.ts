/** The OpenAPI document, and the page that shows it. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Validator } from '@seriousme/openapi-schema-validator';
import { ROUTES } from '../../src/api/routes/index.ts';
import { type ApiWorld, openApiWorld } from './api-world.ts';

let api: ApiWorld;
let document: any;
beforeAll(async () => {
  api = await openApiWorld('api_document', { needs: ['postgres', 'redis'] });
  document = (await api.get('/openapi.json')).body;
});
afterAll(() => api.close());

/** Each object within a value, with its path. */
function* objectsIn(value: unknown, path = ''): Generator<[string, Record<string, unknown>]> {
  if (typeof value !== 'object' || value === null) return;
  if (!Array.isArray(value)) yield [path, value as Record<string, unknown>];
  for (const [key, inner] of Object.entries(value)) yield* objectsIn(inner, `${path}/${key}`);
}

test('it is OpenAPI 3.1, and has exactly the routes', () => {
  expect(document.openapi).toBe('3.1.0');
  const shown = Object.entries(document.paths).flatMap(([path, of]) =>
    Object.keys(of as object).map((method) => `${method.toUpperCase()} ${path}`),
  );
  const routes = ROUTES.map(({ method, path }) => `${method} ${path.replace(/:(\w+)/gu, '{$1}')}`);
  expect(shown.sort()).toEqual(routes.sort());
});

test('it keeps to the schema of OpenAPI', async () => {
  expect(await new Validator().validate(structuredClone(document))).toEqual({ valid: true });
});

test('each operation says what it does, what it needs, and each of its parameters', () => {
  for (const [path, of] of Object.entries<Record<string, any>>(document.paths)) {
    for (const operation of Object.values(of)) {
      expect(operation.summary).toMatch(/^\S.*[^.]$/u);
      expect(operation.description).toMatch(/Needs /u);
      const scheme = operation.security.at(-1);
      expect(Object.keys(scheme)).toEqual(Object.keys(document.components.securitySchemes));
      const names = (operation.parameters ?? [])
        .filter((each: any) => each.in === 'path')
        .map((each: any) => each.name);
      expect(names).toEqual([...path.matchAll(/\{(\w+)\}/gu)].map(([, name]) => name));
      for (const parameter of operation.parameters ?? []) expect(parameter.schema).toBeDefined();
      for (const [status, { description, content }] of Object.entries<any>(operation.responses)) {
        expect(status).toMatch(/^\d\d\d$|^\dXX$/u);
        expect(description).not.toBe('Default Response');
        for (const { schema } of Object.values<any>(content)) expect(schema).toBeDefined();
      }
    }
  }
});

test('its schemas are JSON Schema 2020-12: no word of OpenAPI 3.0 alone, and no reference that leads nowhere', () => {
  for (const [path, object] of objectsIn(document)) {
    if (path.endsWith('/properties')) continue;
    expect([path, object['nullable']]).toEqual([path, undefined]);
    const reference = object['$ref'];
    if (typeof reference !== 'string') continue;
    let at: any = document;
    for (const part of reference.replace(/^#\//u, '').split('/')) at = at?.[part];
    expect([path, at]).not.toEqual([path, undefined]);
  }
});

test('each content type of a body has its own schema', () => {
  const { content } = document.paths['/v1/requests'].post.requestBody;
  expect(content['application/jwt'].schema).toMatchObject({ type: 'string' });
  expect(content['application/json'].schema).toMatchObject({ type: 'array', maxItems: 100 });
});

test('the page shows every route and code, and loads nothing', async () => {
  const { status, headers, text } = await api.get('/docs');
  expect(status).toBe(200);
  expect(headers['content-type']).toMatch(/^text\/html/u);
  expect(headers['content-security-policy']).toMatch(/^default-src 'none'/u);
  for (const path of Object.keys(document.paths)) expect(text).toContain(path);
  expect(text).toContain('Authorization: Chamberlain TOKEN');
  for (const [, anchor] of text.matchAll(/href="#([^"]+)"/gu))
    expect(text).toContain(`id="${anchor}"`);
  expect(text).toContain('id="NOT_FOUND"');
  expect(text).not.toMatch(/<(?:script|link|img|iframe)\b|@import|\burl\(/iu);
});
