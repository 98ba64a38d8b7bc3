/** `chamberlain redis-users`: makes the users of Redis that portals and programs need. */
import { lookAtRedisUsers, lookAtSecretsOfUsers } from '../../doctor/redis-users.ts';
import { makeRedisUsers, readEffective } from '../../secrets/redis-users.ts';
import type { Command } from '../command.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { EXIT } from '../exit.ts';
import { printPage } from '../fold.ts';
import { whileWaiting } from '../progress.ts';
import { printJson } from '../table.ts';

export function define(command: Command): void {
  command
    .description(
      'Shows how the users of Redis differ from those that must exist: one for each program, for each\n' +
        'portal of the configuration, and for each portal that was added by request with `events: queue`.\n\n' +
        'With --apply, corrects them in the running Redis, which then writes its ACL file. A portal whose\n' +
        'password was replaced is disconnected, and so is a portal that was removed. Run it as root, where\n' +
        'all secrets of Redis and `postgres-admin` are, after a change of portals. It may be run again at\n' +
        'any time.',
    )
    .option(
      '--apply',
      'make the users; needs all secrets of Redis, redis-owner among them, and postgres-admin',
    )
    .examples('redis-users', 'redis-users --apply', 'redis-users --apply --json')
    .exits({ 3: 'without --apply: a user differs, or --apply would fail here' })
    .action(async () => {
      const config = configOf(command);
      const json = wantsJson(command);
      if (command.opts<{ apply?: true }>().apply === true) {
        const done = await whileWaiting('making the users of Redis', () => makeRedisUsers(config));
        if (json) printJson(done);
        else printPage(describeDone(Object.entries(done) as [string, string[]][]));
        return;
      }
      const effective = await readEffective(config);
      const missing = lookAtSecretsOfUsers(effective);
      const lines = [...missing, ...(await lookAtRedisUsers(effective))].filter(
        ({ state }) => state !== 'ok',
      );
      const differs = lines.map(({ what }) => what);
      if (differs.length > 0) process.exitCode = EXIT.pending;
      if (json) printJson({ differs });
      else if (differs.length === 0) printPage('every user is as it must be');
      else
        printPage(
          [
            ...differs.map((each) => `Redis: ${each}`),
            '',
            ...new Set((missing.length > 0 ? missing : lines).map(({ todo }) => todo)),
          ].join('\n'),
        );
    });
}

function describeDone(done: readonly [string, string[]][]): string {
  const lines = done.filter(([, users]) => users.length > 0);
  if (lines.length === 0) return 'nothing was to be done';
  return lines.map(([how, users]) => `${how}: ${users.join(', ')}`).join('\n');
}
