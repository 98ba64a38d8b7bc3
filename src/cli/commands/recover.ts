/** `chamberlain recover`: makes it safe to continue after a server was restored from a backup. */
import { ChamberlainError } from '../../shared/errors.ts';
import { isByItself, readFreeze } from '../../database/freeze.ts';
import { type PlaceDoubt, readPlaceDoubts } from '../../seals/place-markers-table.ts';
import type { Command } from '../command.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { EXIT } from '../exit.ts';
import { recoverDatabase } from '../../recovery/recover-database.ts';
import { recoverDirectory } from '../../recovery/recover-directory.ts';
import { type RecoverOptions, refuseUnread, surveyAll } from '../../recovery/recover-survey.ts';
import { parseSeconds } from '../options/seconds.ts';
import { withAdmin } from '../admin.ts';
import { printable } from '../../shared/printable.ts';
import { print, printJson } from '../table.ts';

export function define(command: Command): void {
  command
    .description(
      'Run this after a server was restored from a backup. It compares the heartbeat in the directory and\n' +
        'the markers of the other places, finds out which server is older than the others, and continues\n' +
        'from there. A recovery gives nobody access that the servers do not show.\n\n' +
        'If PostgreSQL is older: freezes the realm, asks the roles for all that they can see, and lists what\n' +
        'it will take from that evidence, and what only you can decide. For each person and tool, the realm\n' +
        'keeps the lesser of what the backup says and what the servers show. There is one exception: a newer\n' +
        'seal shows a decision that the backup does not know. That decision counts, not what the backup says;\n' +
        'but if it gives access, this access counts only if every server shows it. No date in the backup\n' +
        'reinstates or deletes anybody by itself: for each person or tool with such a date, the list has the\n' +
        'command. The numbers of new accounts and events begin above all that were ever used. Names in use\n' +
        'that the backup does not know become unmanaged.\n' +
        'An account with a password that the backup does not know gets a new one. A person who was erased\n' +
        'since the backup is erased again. Once you have confirmed the list, all of this is done in one\n' +
        'transaction, and the realm is thawed.\n\n' +
        'If the directory is older: brings all entries up to date, beginning with access that must be\n' +
        'revoked; then the heartbeat for login hosts continues.\n\n' +
        'The workers must be running. The command may be interrupted at any moment, and run again; a frozen\n' +
        'realm stays frozen until it succeeds. It writes as the owner of the database, and needs the secret\n' +
        '`postgres-owner`.',
    )
    .option('--expect <digest>', 'do not ask for confirmation if the list has this digest')
    .option(
      '--database',
      'treat PostgreSQL as restored although no server shows it, because all of them were restored',
    )
    .option(
      '--keep <accounts>',
      'trust the backup, not the evidence, for these accounts: a,b',
      (text) => text.split(','),
    )
    .option(
      '--seals <file...>',
      'copies of /var/lib/chamberlain/login/seals, one from each login host',
    )
    .option(
      '--timeout <seconds>',
      'how long a role may take without a sign of life',
      parseSeconds,
      60,
    )
    .examples(
      'recover',
      'recover --json',
      'recover --database --seals host1.seals host2.seals',
      'recover --expect DIGEST',
    )
    .exits({
      0: 'the recovery is complete, or the servers show that none was restored from a backup',
      1: 'the command failed (see standard error), or the answer was no',
      3: 'the list must be read and confirmed; the realm stays frozen',
      4: 'a role or a server did not answer, so nothing was done',
      5: 'a worker has not finished its work in progress, or the directory is not up to date yet',
    })
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
        reportPlaces(command, await withAdmin(config, readPlaceDoubts), frozen !== undefined);
      }
    });
}

/** The role of an older place brings it up to date by itself; otherwise nothing is older. */
function reportPlaces(command: Command, places: readonly PlaceDoubt[], isFrozen: boolean): void {
  const older = places.filter((place) => place.older === 'place');
  if (wantsJson(command)) printJson({ recovered: false, older });
  else if (older.length === 0)
    print(isFrozen ? `${NOTHING_OLDER}\n${STILL_FROZEN}` : NOTHING_OLDER);
  else {
    print(older.map(({ sentence }) => `${printable(sentence ?? '')}.`).join('\n'));
    print(OLDER_PLACE);
  }
  process.exitCode = EXIT.done;
}

const NOTHING_OLDER =
  'No server is older than another, as far as their markers show, so nothing was done. If all of them were\n' +
  'restored from backups of the same moment, run `chamberlain recover --database`.';
const STILL_FROZEN =
  'The realm stays frozen. If not all of them were restored, nothing was lost: run `chamberlain thaw`.';

/** The error for a confirmed list that does not exist. Exit 0 would mislead a script: the realm is still frozen. */
function nothingTo(digest: string): ChamberlainError {
  return new ChamberlainError(
    'PLAN_MOVED',
    `no server is older than another, as far as their markers show, so no list has the digest ${digest}; nothing was done, and the realm stays frozen`,
    {
      action:
        'If all servers were restored from backups of the same moment, give `--database` too.',
    },
  );
}

const OLDER_PLACE =
  '\nIts role removes the access that it should not give, and the doubt ends by itself: see `chamberlain status`.\n' +
  'After that, the sweep or `chamberlain repair --all` restores what is missing there.';
