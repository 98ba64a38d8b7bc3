/** `chamberlain ignore`: leaves unmanaged things as they are. */
import type { Config } from '../../../shared/config.ts';
import { ChamberlainError } from '../../../shared/errors.ts';
import { thingsNamed, type UnmanagedThing } from '../../../unmanaged/unmanaged.ts';
import { ignoreThings, readUnmanaged } from '../../../unmanaged/unmanaged-table.ts';
import type { Command } from '../../command.ts';
import { configOf, wantsJson } from '../../configuration.ts';
import { operatorName } from '../../operator.ts';
import { withAdmin } from '../../admin.ts';
import { printable } from '../../../shared/printable.ts';
import { print, printJson } from '../../table.ts';

export function define(command: Command): void {
  command
    .description(
      'Leaves unmanaged OBJECTs as they are. They stay in `chamberlain list unmanaged` for good, as\n' +
        'ignored, with the operator and the reason; the audit records both too. No request gets their\n' +
        'names or numbers. Another thing with the same name needs a new decision. The next sweep, repair\n' +
        'or request that concerns a tool removes an unmanaged member of its group even if it is ignored.',
    )
    .argument(
      '<OBJECT...>',
      'as `list unmanaged` shows it, or a name or number that only one thing has',
    )
    .requiredOption('--reason <text>', 'why, for later readers (required)')
    .examples(
      'ignore uid=backup,ou=people,dc=example,dc=org --reason "the backup service, see the wiki"',
      'ignore /home/shared s90001@% --reason "moved here from the old cluster"',
    )
    .exits()
    .action(async (words: string[]) => {
      const config = configOf(command);
      const { reason } = command.opts<{ reason: string }>();
      if (reason.trim() === '') command.error('error: --reason is empty: say why');
      const things = await withAdmin(config, async (client) => {
        const found = requireThings(config, await readUnmanaged(client), words);
        await ignoreThings(client, found, operatorName(), reason.trim());
        return found;
      });
      const ignored = things.map(({ role, place, object, kind }) => ({
        role,
        place,
        object,
        kind,
      }));
      if (wantsJson(command)) printJson({ ignored });
      else for (const { kind, object } of ignored) print(printable(`ignored: ${kind} ${object}`));
    });
}

/**
 * The things that the words name, each once. Throws USAGE if a word names nothing in the list, or if several
 * things have a name or number.
 */
export function requireThings(
  { ldap: { base } }: Config,
  things: readonly UnmanagedThing[],
  words: readonly string[],
): UnmanagedThing[] {
  const found = words.flatMap((word) => {
    const named = thingsNamed(things, word, base);
    const objects = [...new Set(named.map(({ object }) => object))];
    if (objects.length === 0) {
      const sentence = `\`list unmanaged\` shows nothing called '${word}'`;
      throw new ChamberlainError('USAGE', sentence);
    }
    if (objects.length > 1) {
      const sentence = `'${word}' may mean ${objects.join(' or ')}: give one of them`;
      throw new ChamberlainError('USAGE', sentence);
    }
    return named;
  });
  return [...new Set(found)];
}
