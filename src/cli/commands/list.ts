/** `chamberlain list` and `list unmanaged`. Reads only PostgreSQL. */
import { timeOf } from '../../shared/time.ts';
import {
  countKinds,
  isUndecided,
  nounOf,
  UNMANAGED_KINDS,
  type UnmanagedThing,
} from '../../unmanaged/unmanaged.ts';
import { describeDecision, describeMaking } from '../../unmanaged/render-unmanaged.ts';
import { readLooks, readUnmanaged } from '../../unmanaged/unmanaged-table.ts';
import { type Unseen, unseenOf } from '../../unmanaged/unseen.ts';
import type { Command } from '../command.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { EXIT } from '../exit.ts';
import { printPage } from '../fold.ts';
import { defineListing } from './listing.ts';
import { withAdmin } from '../admin.ts';
import { paint, printJson, renderColumns } from '../table.ts';

export function define(command: Command): void {
  command
    .description('Lists things of one kind.')
    .helpCommand(false)
    .examples('list people', 'list keys --person alice', 'list unmanaged')
    .exits();
  defineListing(command);
  const unmanaged = command
    .command('unmanaged')
    .summary('things in managed places, or with managed numbers, that Chamberlain did not make');
  unmanaged
    .description(
      'Lists things that Chamberlain did not make, but that are in a place that it manages or have a\n' +
        'number from its ranges: accounts, members, groups, sudo rules and other entries of the directory,\n' +
        'homes, database users, archives. Shows what each is, when it was first seen, and who made it, as\n' +
        'far as that is recorded. The roles look every 20 seconds.\n\n' +
        'Chamberlain never removes such a thing, with one exception: the next sweep, repair or request that\n' +
        'concerns a tool removes an unmanaged member from its group, because the group itself is managed.\n' +
        'Everything else is for you to decide: remove it yourself, or run `chamberlain adopt` or\n' +
        '`chamberlain ignore`. A thing that is gone is no longer listed; an ignored one stays listed for\n' +
        'good.',
    )
    .examples(
      'list unmanaged',
      "list unmanaged --json | jq -r '.things[] | select(.ignoredAt == null) | .object'",
    )
    .exits({
      3: 'no admin has decided yet on something in the list',
      4: 'a place has not been looked at for two minutes, so the list may be incomplete',
    })
    .action(async () => {
      const config = configOf(unmanaged);
      const now = new Date();
      const [things, looks] = await withAdmin(config, (client) =>
        Promise.all([readUnmanaged(client), readLooks(client)]),
      );
      const unseen = unseenOf(config, looks, now);
      if (things.some(isUndecided)) process.exitCode = EXIT.pending;
      if (unseen.length > 0) process.exitCode = EXIT.unreadable;
      if (wantsJson(unmanaged)) printJson({ things, unseen });
      else printPage(renderList(things, unseen));
    });
}

function renderList(things: readonly UnmanagedThing[], unseen: readonly Unseen[]): string {
  const undecided = things.filter(isUndecided);
  const ignored = things.filter((thing) => !isUndecided(thing));
  const parts = UNMANAGED_KINDS.flatMap((kind) => {
    const of = undecided.filter((thing) => thing.kind === kind);
    if (of.length === 0) return [];
    const title = paint('bold', `${of.length} ${nounOf(kind, of.length)}`);
    return [`${title}\n${renderThings(of, 'made', describeMaking)}`];
  });
  if (ignored.length > 0) {
    const title = paint('bold', `${ignored.length} ignored`);
    parts.push(`${title}\n${renderThings(ignored, 'decided', describeFate)}`);
  }
  if (unseen.length > 0) {
    const lines = unseen.map(({ role, place, lookedAt }) => {
      const last = lookedAt === null ? 'never looked at' : `last looked at ${timeOf(lookedAt)}`;
      return `  ${role}: ${place}: ${last}`;
    });
    parts.push(
      [paint('red', 'UNREADABLE: not looked at in the last two minutes'), ...lines].join('\n'),
    );
  }
  parts.push(
    undecided.length === 0
      ? 'Nothing waits for a decision.'
      : `Undecided: ${countKinds(undecided)}. \`chamberlain adopt OBJECT\` takes over an account or a tool; ` +
          '`chamberlain ignore OBJECT --reason TEXT` leaves an object as it is, except a member of a group of a ' +
          'tool, which the next sweep removes. An object that you remove by hand is no longer listed.',
  );
  return parts.join('\n\n');
}

function describeFate(thing: UnmanagedThing): string {
  const gone = thing.goneAt === null ? '' : `gone since ${timeOf(thing.goneAt)}; `;
  return `${gone}${describeDecision(thing)}`;
}

function renderThings(
  things: readonly UnmanagedThing[],
  heading: string,
  describe: (thing: UnmanagedThing) => string,
): string {
  return renderColumns(things, [
    [
      'object',
      ({ kind, object, place }) => (kind === 'database user' ? `${object} on ${place}` : object),
    ],
    ['number', ({ number }) => number],
    ['first seen', ({ since }) => timeOf(since)],
    [heading, describe],
  ]);
}
