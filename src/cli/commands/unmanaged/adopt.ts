/** `chamberlain adopt`: takes over unmanaged accounts and tools, which it judges as `import` does. */
import { ChamberlainError } from '../../../shared/errors.ts';
import type { UnmanagedThing } from '../../../unmanaged/unmanaged.ts';
import { namesOf } from '../../../backends/ldap/directory-names.ts';
import { type AnyRef, entryRef, splitRef } from '../../../targets/directory-reader.ts';
import type { EntryRef } from '../../../reconcile/action.ts';
import { describeThing } from '../../../unmanaged/render-unmanaged.ts';
import { readUnmanaged } from '../../../unmanaged/unmanaged-table.ts';
import { confirm, requireTerminal } from '../../confirm.ts';
import type { Command } from '../../command.ts';
import { configOf, wantsJson } from '../../configuration.ts';
import { requireThings } from './ignore.ts';
import { exitOf, type ImportOptions, runImport, withoutActions } from './import.ts';
import { type ImportReport, renderImport } from '../../../import/import-report.ts';
import { withAdmin } from '../../admin.ts';
import { printable } from '../../../shared/printable.ts';
import { print, printJson } from '../../table.ts';

export function define(command: Command): void {
  command
    .description(
      'Takes over accounts and tools that `chamberlain list unmanaged` shows: people with their keys, tools\n' +
        'with group, account and members. It judges them as `chamberlain import` does, shows what it would\n' +
        'take over and what not, and asks for confirmation before it writes anything. The home, the database\n' +
        'users and the sudo rule of an account are taken over with it. Nothing outside PostgreSQL is changed.\n\n' +
        'Runs as the owner of the database, like `import`, and reads with the same accounts.',
    )
    .argument('<OBJECT...>', 'an account, or the group of a tool, as `list unmanaged` shows it')
    .option(
      '--homes',
      'also check their homes, as root on the file server, and keep credentials files that are right',
    )
    .option('--databases', 'also compare their accounts on each database server')
    .option('--check', 'only show what would be taken over')
    .option('--yes', 'do not ask for confirmation')
    .examples(
      'adopt uid=carol,ou=people,dc=example,dc=org --check',
      'adopt cn=tools.oldbot,ou=servicegroups,dc=example,dc=org --homes --databases',
    )
    .exits({
      0: 'taken over, and as wanted',
      3: 'something was not taken over, or is not as wanted',
      4: 'something is UNREADABLE; if it is the directory or a home, nothing was taken over',
    })
    .action(async (words: string[]) => {
      const { check, yes, ...looked } = command.opts<ImportOptions>();
      const json = wantsJson(command);
      if (!check && !yes) requireTerminal(command, '--yes, or --check');
      const config = configOf(command);
      const things = await withAdmin(config, readUnmanaged);
      const named = requireThings(config, things, words);
      const names = namesOf(config.ldap.base, config.realm);
      // the object may give access to whoever made it
      if (!json) for (const thing of named) print(printable(describeThing(thing)));
      const only = new Set(named.flatMap((thing) => refsOf(thing, names.entry(thing.object))));
      const run = async (how: Pick<ImportOptions, 'check'>): Promise<ImportReport | undefined> => {
        // the operator has seen and confirmed what is left out
        const terms = { ...looked, ...how, yes: true, only } as const;
        const report = await runImport(command, config, terms);
        if (report === undefined) return undefined;
        if (json) printJson(withoutActions(report));
        else print(renderImport(report, 'adopt'));
        process.exitCode = exitOf(report);
        return report;
      };
      if (check || !yes) {
        const report = await run({ check: true });
        if (report === undefined || check) return;
        if (report.taken.people + report.taken.tools === 0) {
          print(
            '\nNothing can be taken over. `chamberlain ignore OBJECT --reason TEXT` leaves an object as it is.',
          );
          return;
        }
        const warning =
          report.taken.keys === 0
            ? ''
            : 'Whoever has one of these SSH keys will be able to log in. ';
        const question = `\n${warning}Take these over? [y/N] `;
        if (!(await confirm(question, 'Nothing was taken over.'))) return;
      }
      await run({});
    });
}

/** The entries that belong together: a tool's group and account. Throws USAGE for a kind that cannot be taken over. */
function refsOf({ object, kind }: UnmanagedThing, ref: AnyRef): AnyRef[] {
  if (kind !== 'account' && kind !== 'group')
    throw new ChamberlainError('USAGE', whyNot(object, kind));
  if (ref.startsWith('dn:')) return [ref];
  const { place, name } = splitRef(ref as EntryRef);
  return place === 'toolGroups' || place === 'toolAccounts'
    ? [ref, entryRef('toolGroups', 'cn', name), entryRef('toolAccounts', 'uid', name)]
    : [ref];
}

function whyNot(object: string, kind: UnmanagedThing['kind']): string {
  const leave = '`chamberlain ignore` leaves it as it is';
  switch (kind) {
    case 'home':
    case 'database user':
    case 'rule': {
      const what = kind === 'rule' ? 'sudo rule' : kind;
      return `${object}: a ${what} is taken over together with the account that has the same name or number: adopt that account; \`chamberlain ignore\` leaves the ${what} as it is`;
    }
    case 'member':
      return `${object}: to keep a member, send a request (maintainer.add, access.grant); \`chamberlain ignore\` keeps a member of the realm group, but the next sweep removes a member of a tool's group`;
    default:
      return `${object}: this kind of thing (${kind}) cannot be taken over; ${leave}`;
  }
}
