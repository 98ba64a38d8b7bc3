/** The OpenAPI document, and a page that shows it. */
import * as z from 'zod';
import { CONTENT_POLICY, renderPage } from '../docs-page.ts';
import type { OpenApi } from '../document.ts';
import { route } from '../route.ts';

export const PAGE_ROUTES = [
  route({
    method: 'GET',
    path: '/openapi.json',
    summary: 'this document (OpenAPI 3.1)',
    right: 'none',
    replies: { 200: z.record(z.string(), z.unknown()).describe('an OpenAPI document') },
  }).handle(async (_, { request }) => ({
    status: 200,
    body: request.server.swagger() as unknown as Record<string, unknown>,
  })),
  route({
    method: 'GET',
    path: '/docs',
    summary: 'this document as a page for people',
    right: 'none',
    replies: { 200: z.string().describe('a page in HTML') },
    types: { 200: 'text/html; charset=utf-8' },
  }).handle(async (_, { request }) => ({
    status: 200,
    body: renderPage(request.server.swagger() as unknown as OpenApi),
    headers: { 'content-security-policy': CONTENT_POLICY },
  })),
];
