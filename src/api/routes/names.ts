/** Whether a name is free. */
import * as z from 'zod';
import { withClient } from '../../database/connection.ts';
import { normalName, toolAccount, withoutRealm } from '../../identity/names.ts';
import { readNameState } from '../../identity/names-table.ts';
import { faultOfNewName } from '../../requests/new-names.ts';
import { route } from '../route.ts';

const NAME = z
  .object({
    name: z.string(),
    of: z.enum(['person', 'tool']),
    state: z.enum(['free', 'taken', 'reserved', 'invalid']),
    code: z.string().optional().describe('that of the verdict that a request would get'),
    sentence: z.string().optional().describe('why it is not free'),
  })
  .describe('whether somebody can get the name');

const STATES: Record<string, z.output<typeof NAME>['state']> = {
  NAME_RESERVED: 'reserved',
  ADMIN_TOOL: 'reserved',
  NAME_INVALID: 'invalid',
};

export const NAME_ROUTES = [
  route({
    method: 'GET',
    path: '/v1/names/:name',
    summary: 'whether a name is free',
    description:
      'A person and a tool may have the same name. Without `of`, a name that begins with the realm, such as tools.bridgebot, is that of a tool.',
    right: 'token',
    params: z.object({ name: z.string().min(1).max(255) }),
    query: z.strictObject({ of: z.enum(['person', 'tool']).optional() }),
    replies: { 200: NAME },
  }).handle(async ({ config, pool }, { params, query }) => {
    const bare = withoutRealm(params.name, config.realm);
    const of = query.of ?? (bare === params.name ? 'person' : 'tool');
    const name = of === 'tool' ? bare : params.name;
    const account = of === 'tool' ? toolAccount(config.realm, normalName(name)) : normalName(name);
    const state = await withClient(pool, (client) => readNameState(client, account));
    const fault = faultOfNewName(of, name, state, config);
    return {
      status: 200,
      body: {
        ...{ name, of },
        state: fault === undefined ? 'free' : (STATES[fault.code] ?? 'taken'),
        ...fault,
      },
    };
  }),
];
