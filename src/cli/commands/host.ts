/** `chamberlain host`: the hosts that have joined. */
import type { Host } from '../../backends/ldap/directory-hosts.ts';
import { timeOf } from '../../shared/time.ts';
import { removeHost, requireHost, withHostAccounts } from '../../joining/joining.ts';
import { confirm, requireTerminal } from '../confirm.ts';
import type { Command } from '../command.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { whileWaiting } from '../progress.ts';
import { print, printJson, renderColumns } from '../table.ts';

const READING = 'reading the directory';

export function define(host: Command): void {
  host
    .description('Shows the hosts that have joined, and ends their access.')
    .helpCommand(false)
    .examples('host list');
  defineList(host.command('list').summary('list the hosts that have joined'));
  defineRemove(host.command('remove').summary('end the access of one host at once'));
}

function defineList(command: Command): void {
  command
    .description(
      'Lists each host that has an account of its own in the directory, or the rights of a login host\n' +
        'there: whether the directory lets it read, when and by whom it was joined, and the fingerprint of\n' +
        'its join request. Hosts that share the account keys-agent are not listed. Needs the secret\n' +
        'ldap-admin.',
    )
    .examples('host list', 'host list --json')
    .exits()
    .action(async () => {
      const config = configOf(command);
      const hosts = await whileWaiting(READING, () =>
        withHostAccounts(config, (accounts) => accounts.list()),
      );
      if (wantsJson(command)) printJson({ hosts: hosts.map(jsonOf) });
      else if (hosts.length === 0) print('no host has joined');
      else print(render(hosts));
    });
}

function jsonOf({ name, hasAccess, record }: Host) {
  const { kind, fingerprint, joinedAt, by } = record ?? {};
  return {
    ...{ name, kind: kind ?? null, hasAccess, fingerprint: fingerprint ?? null },
    ...{ joinedAt: joinedAt ?? null, by: by ?? null },
  };
}

function render(hosts: readonly Host[]): string {
  return renderColumns(hosts, [
    ['name', ({ name }) => name],
    ['kind', ({ record }) => record?.kind],
    ['access', ({ hasAccess }) => (hasAccess ? 'yes' : 'no')],
    ['fingerprint', ({ record }) => record?.fingerprint],
    ['joined', ({ record }) => record && timeOf(record.joinedAt)],
    ['by', ({ record }) => record?.by],
  ]);
}

function defineRemove(command: Command): void {
  command
    .description(
      'Ends the account of a host in the directory at once, also on connections that are open. The host\n' +
        'learns nothing any more: people can log in there until the lines in its key files expire, and what a\n' +
        'suspension ends elsewhere continues there. So first take the machine out of use. It can join again.\n' +
        'Run it as root where the secrets ldap-admin and postgres-admin are.',
    )
    .argument('<NAME>', 'as `host list` shows it')
    .option('--yes', 'do not ask for confirmation; required without a terminal')
    .examples('host remove login1.example.org', 'host remove login1.example.org --yes')
    .exits({ 1: 'the command failed (see standard error), or the answer was no' })
    .action(async (name: string) => {
      const { yes } = command.opts<{ yes?: true }>();
      const json = wantsJson(command);
      if (yes !== true) requireTerminal(command, '--yes');
      const config = configOf(command);
      const found = await whileWaiting(READING, () =>
        withHostAccounts(config, (hosts) => requireHost(hosts, name)),
      );
      if (!json) {
        print(render(found));
        print('\nThe directory ends its account at once: it learns of no change any more.');
      }
      if (yes !== true && !(await confirm('\nDo that? [y/N] '))) return;
      await removeHost(config, name);
      if (json) printJson({ removed: name });
      else print(`\n${name} cannot read the directory any more.`);
    });
}
