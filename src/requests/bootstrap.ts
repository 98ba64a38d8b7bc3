/** `chamberlain bootstrap`: creates the first admin, when there is nobody yet who could request or approve it. */
import { createHash } from 'node:crypto';
import type { Config } from '../shared/config.ts';
import { ChamberlainError } from '../shared/errors.ts';
import { type AccountName, parseNewToolName, toolAccount } from '../identity/names.ts';
import { parseRequest, type RequestOf } from './schema.ts';
import { allocateId, syncRanges } from '../identity/id-allocation-table.ts';
import { admitPeople, isRealmEmpty } from '../identity/people-table.ts';
import { inTransaction, type Pool, withClient } from '../database/connection.ts';
import { recordVerdict } from './requests-table.ts';
import { insertTools } from '../identity/tools-table.ts';
import { refuse } from './context.ts';
import { touchesOfEveryRole } from '../roles/touches.ts';
import { createPerson } from './rules/person.ts';

export interface Bootstrapped {
  person: { uid: number; account: AccountName };
  tool: { uid: number; account: AccountName };
}

/**
 * Creates a person, admits them to the realm, and creates the admin tool with this one maintainer. Works only
 * once: it is refused (NOT_ALLOWED) if the realm has a person already. Runs as the owner of the database, because
 * no person has the right to request it.
 */
export async function bootstrap(
  pool: Pool,
  config: Config,
  shellName: string,
  { displayName, email, key }: { displayName: string; email: string; key?: string | undefined },
): Promise<Bootstrapped> {
  const parsed = parseRequest('person.create', {
    kind: 'person.create',
    requestedBy: shellName,
    shellName,
    displayName,
    email,
    key,
  });
  if ('problems' in parsed) refuse('REQUEST_INVALID', parsed.problems.join('; '));
  const toolName = parseNewToolName(config.admin);
  if (toolName === undefined)
    refuse('NAME_INVALID', `${config.admin} cannot be the name of a tool.`);
  await withClient(pool, (client) => syncRanges(client, config));
  return inTransaction(pool, async (client) => {
    await client.query('LOCK TABLE people IN EXCLUSIVE MODE');
    if (!(await isRealmEmpty(client))) {
      throw new ChamberlainError('NOT_ALLOWED', 'the realm already has people', {
        action: `To add another admin, an admin runs \`chamberlain submit maintainer.add --tool ${config.admin} --person ${shellName} --wait\`.`,
      });
    }
    const person = await createPerson({
      client,
      config,
      request: parsed.request as RequestOf<'person.create'>,
      portal: undefined,
      id: undefined,
      requestedBy: shellName,
      actor: undefined,
      now: new Date(),
    });
    await admitPeople(client, [person.subject]);
    const uid = await allocateId(client, 'tool');
    const account = toolAccount(config.realm, toolName);
    const title = 'Administration of the realm';
    await insertTools(client, [
      { uid, name: toolName, account, title, maintainers: [person.subject] },
    ]);
    await recordVerdict(client, {
      portal: undefined,
      jti: undefined,
      bodySha256: createHash('sha256').update('bootstrap').digest(),
      kind: 'bootstrap',
      requestedBy: shellName,
      approvedBy: undefined,
      subject: uid,
      verdict: 'accepted',
      code: undefined,
      sentence: undefined,
      urgent: false,
      onDone: { event: 'tool.ready', data: { tool: config.admin, account, uid } },
      touches: [person.subject, uid].flatMap(touchesOfEveryRole),
      audit: { account, fields: ['person', 'access', 'admin'] },
    });
    return {
      person: { uid: person.subject, account: person.account as AccountName },
      tool: { uid, account },
    };
  });
}
