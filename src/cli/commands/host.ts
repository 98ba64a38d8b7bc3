/** `chamberlain host`: the hosts that have joined. */
import type { Host } from '../../backends/ldap/directory-hosts.ts';
import { timeOf } from '../../shared/time.ts';
import { removeHost, requireHost, withHostAccounts } from '../../joining/joining.ts';
import { leftAfterRemoval, removeRoles } from '../../joining/role-joining.ts';
import type { Config, RoleMachine } from '../../shared/config.ts';
import { confirm, requireTerminal } from '../confirm.ts';
import type { Command } from '../command.ts';
import { configOf, configPathOf, wantsJson } from '../configuration.ts';
import { whileWaiting, withProgress } from '../progress.ts';
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
        'its join request. Then each machine that runs roles, as the configuration names it. Hosts that\n' +
        'share the account keys-agent are not listed. Needs the secret ldap-admin.',
    )
    .examples('host list', 'host list --json')
    .exits()
    .action(async () => {
      const config = configOf(command);
      const hosts = await whileWaiting(READING, () =>
        withHostAccounts(config, (accounts) => accounts.list()),
      );
      const all = [...hosts.map(ofHost), ...config.machines.map(ofMachine)];
      if (wantsJson(command)) printJson({ hosts: all });
      else if (all.length === 0) print('no host has joined');
      else print(render(all));
    });
}

/** A line of the list; a login host has no roles. */
interface Listed {
  name: string;
  kind: string | null;
  roles?: readonly string[];
  hasAccess: boolean;
  fingerprint: string | null;
  joinedAt: string | null;
  by: string | null;
}

function ofHost({ name, hasAccess, record }: Host): Listed {
  const { kind = null, fingerprint = null, joinedAt = null, by = null } = record ?? {};
  return { name, kind, hasAccess, fingerprint, joinedAt, by };
}

function ofMachine(machine: RoleMachine): Listed {
  const { name, roles, fingerprint = null, joinedAt = null, by = null } = machine;
  return { name, kind: 'role', roles, hasAccess: true, fingerprint, joinedAt, by };
}

function render(hosts: readonly Listed[]): string {
  return renderColumns(hosts, [
    ['name', ({ name }) => name],
    ['kind', ({ kind, roles }) => roles?.join(' ') ?? kind ?? undefined],
    ['access', ({ hasAccess }) => (hasAccess ? 'yes' : 'no')],
    ['fingerprint', ({ fingerprint }) => fingerprint ?? undefined],
    ['joined', ({ joinedAt }) => (joinedAt === null ? undefined : timeOf(joinedAt))],
    ['by', ({ by }) => by ?? undefined],
  ]);
}

function defineRemove(command: Command): void {
  command
    .description(
      'Ends the account of a host in the directory at once, also on connections that are open. The host\n' +
        'hears of no change after that: people can log in there until the lines in its key files expire, and\n' +
        'somebody who is suspended stays logged in. So first take the machine out of use. It can join again.\n' +
        'Run it as root where the secrets ldap-admin and postgres-admin are.\n\n' +
        'If the machine runs roles, every password of these roles is replaced, also in the files here, and\n' +
        'connections that were opened with an old one end. Then no machine runs these roles, until\n' +
        '`chamberlain setup` starts them here, or another machine joins for them. Run it as root where all\n' +
        'secrets are.',
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
      const machine = config.machines.find((each) => each.name === name);
      if (machine !== undefined) return await removeMachine(command, config, machine);
      const found = await whileWaiting(READING, () =>
        withHostAccounts(config, (hosts) => requireHost(hosts, name)),
      );
      if (!json) {
        print(render(found.map(ofHost)));
        print('\nThe directory ends its account at once: the host hears of no change after that.');
      }
      if (yes !== true && !(await confirm('\nDo that? [y/N] '))) return;
      await removeHost(config, name);
      if (json) printJson({ removed: name });
      else print(`\n${name} cannot read the directory any more.`);
    });
}

/** Ends what a machine of roles may do. */
async function removeMachine(
  command: Command,
  config: Config,
  machine: RoleMachine,
): Promise<void> {
  const { yes } = command.opts<{ yes?: true }>();
  const json = wantsJson(command);
  const { name, roles } = machine;
  const all = roles.join(' and ');
  if (!json) {
    print(render([ofMachine(machine)]));
    print(
      `\nEvery password of ${all} is replaced here, and connections with an old one end. Then no machine\n` +
        `runs ${all}, until you run \`chamberlain setup\` here, or another machine joins.`,
    );
  }
  if (yes !== true && !(await confirm('\nDo that? [y/N] '))) return;
  await withProgress(json, (say) =>
    removeRoles(config, machine, { configFile: configPathOf(command), say }),
  );
  const todo = leftAfterRemoval(config, machine);
  if (json) printJson({ removed: name, todo });
  else print([`\n${name} cannot log in to a server of the realm any more.`, ...todo].join('\n'));
}
