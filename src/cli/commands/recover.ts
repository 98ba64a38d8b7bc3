/** `chamberlain recover`: makes it safe to go on after a server came back from a backup. */
import type { Command } from 'commander';
import { ChamberlainError } from '../../shared/errors.ts';
import { isByItself, readFreeze } from '../../database/freeze.ts';
import { type PlaceDoubt, readPlaceDoubts } from '../../seals/place-markers-table.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { describeExamples, describeExits, EXIT } from '../exit.ts';
import { recoverDatabase } from '../../recovery/recover-database.ts';
import { recoverDirectory } from '../../recovery/recover-directory.ts';
import { type RecoverOptions, refuseUnread, surveyAll } from '../../recovery/recover-survey.ts';
import { parseSeconds } from '../seconds.ts';
import { withAdmin } from '../admin.ts';
import { print, printJson, withoutControls } from '../table.ts';

export function defineRecover(command: Command): void {
  command
    .description(
      'After a server came back from a backup: finds out which one is older than the others, by what the\n' +
        'heartbeat has left there, and goes on from there. No recovery gives anybody access.\n\n' +
        'PostgreSQL is older: freezes the realm, asks the roles for all that they can see, and shows what it\n' +
        'takes from that evidence, and what only you can decide: of each person and tool the lesser of what\n' +
        'the backup says and what the servers show counts; a newer seal counts as the decision that it was.\n' +
        'No date of the backup reinstates or deletes anybody before you say so. Numbers of accounts and of\n' +
        'events go on beyond all that were given; names in use that the backup does not know are taken for\n' +
        'another’s; who has a password that the backup does not know gets a new one; who was erased by law\n' +
        'is erased again. Once you have confirmed the list, all of that is done in one transaction, and the\n' +
        'realm is thawed.\n\n' +
        'The directory is older: everybody’s entries are brought up to date, first where something is to be\n' +
        'taken away; then login hosts are told again.\n\n' +
        'The workers must run. It may be interrupted at any moment, and run again; until it has ended well a\n' +
        'frozen realm stays frozen. Writes as the owner of the database, and needs its secret.',
    )
    .option('--expect <digest>', 'do not ask: do what the list with this digest says')
    .option('--database', 'PostgreSQL came back, though nothing shows it: so did all the rest')
    .option('--keep <accounts>', 'of these the backup counts, not the evidence: a,b', (text) =>
      text.split(','),
    )
    .option(
      '--seals <file...>',
      'files /var/lib/chamberlain/login/seals, each copied from a login host',
    )
    .option(
      '--timeout <seconds>',
      'how long a role may take without a sign of life',
      parseSeconds,
      60,
    )
    .addHelpText(
      'after',
      describeExamples(
        'recover',
        'recover --json',
        'recover --database --seals host1.seals host2.seals',
        'recover --expect "$(chamberlain recover --json | jq -r .digest)"',
      ) +
        `\n${describeExits({
          0: 'it is done; or nothing came back from a backup, as far as the servers show',
          1: 'it failed, or the answer was no: standard error says why',
          3: 'the list is to be read and confirmed; the realm stays frozen',
          4: 'a role or a server did not answer, so nothing was done',
          5: 'a worker is still at what it had begun; or the directory is not all up to date yet',
        })}`,
    )
    .action(async () => {
      const config = configOf(command);
      const { database, expect } = command.opts<RecoverOptions>();
      const frozen = await withAdmin(config, readFreeze);
      if (database === true || (frozen !== undefined && isByItself(frozen))) {
        await recoverDatabase(command);
        return;
      }
      const surveyed = await surveyAll(command, config, ['directory']);
      if (surveyed.doubt?.older === 'database') await recoverDatabase(command);
      else if (surveyed.doubt?.older === 'directory') await recoverDirectory(command, surveyed);
      else if (!refuseUnread(command, surveyed.unreadable, 'nothing was frozen')) {
        if (frozen !== undefined && expect !== undefined) throw nothingTo(expect);
        tellPlaces(command, await withAdmin(config, readPlaceDoubts), frozen !== undefined);
      }
    });
}

/** A place that is older is brought up to date by its role alone; else nothing is older. */
function tellPlaces(command: Command, places: readonly PlaceDoubt[], isFrozen: boolean): void {
  const older = places.filter((place) => place.older === 'place');
  if (wantsJson(command)) printJson({ recovered: false, older });
  else if (older.length === 0)
    print(isFrozen ? `${NOTHING_OLDER}\n${STILL_FROZEN}` : NOTHING_OLDER);
  else {
    print(older.map(({ sentence }) => `${withoutControls(sentence ?? '')}.`).join('\n'));
    print(OLDER_PLACE);
  }
  process.exitCode = EXIT.done;
}

const NOTHING_OLDER =
  'Nothing is older than another, as far as the servers show, so nothing was done. If all of them came back\n' +
  'from backups of one moment, run `chamberlain recover --database`.';
const STILL_FROZEN = 'The realm stays frozen.';

/** A list that was confirmed, and is none: whoever goes on as if that were done goes on with a frozen realm. */
function nothingTo(digest: string): ChamberlainError {
  return new ChamberlainError(
    'PLAN_MOVED',
    `nothing is older than another, as far as the servers show, so no list has the digest ${digest}; nothing was done, the realm stays frozen`,
    { action: 'Where all came back from backups of one moment, give `--database` too.' },
  );
}

const OLDER_PLACE =
  '\nWhat it gives and should not is being taken away, and the doubt ends by itself: see `chamberlain status`.\n' +
  'What is lacking there then, the sweep gives, or `chamberlain repair --all`.';
