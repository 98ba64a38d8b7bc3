/** `chamberlain restored`, where it is PostgreSQL that came back from a backup. */
import type { Command } from 'commander';
import { adminOfPortal } from '../config.ts';
import { parseErasedPeople } from '../model/erased-person.ts';
import { ROLES, type Role } from '../model/wanted.ts';
import type { Step } from '../plan/plan.ts';
import { count, countPlan, nameFew, type Totals } from '../plan/render.ts';
import { mergeReports, type Report } from '../plan/report.ts';
import { tellPortals } from '../requests/done.ts';
import { openOwner } from '../store/import.ts';
import { restore, type Restoration, type SeenSince } from '../store/restored.ts';
import { seal } from '../targets/seal.ts';
import { configOf, wantsJson } from './configuration.ts';
import { confirm } from './confirm.ts';
import { EXIT, failureLine } from './exit.ts';
import { describeActing, freezeAndWait } from './freeze.ts';
import { operatorName } from './operator.ts';
import { type RestoredOptions, refuseUnread, surveyAll } from './restored-survey.ts';
import { print, printJson, renderTable } from './table.ts';

const UNREAD_ERASURES = {
  target: 'home-archive',
  sentence:
    'the list of who was erased by law (erasures.log beside the archives of homes) cannot be read; put its newest copy ' +
    'back, or run `chamberlain prepare` on the file server where nobody was ever erased',
};

/** Accounts of one list; --json has them all. */
const MOST_GIVEN = 20;

/** Freezes, surveys, shows what it would move and asks, then does that and thaws. */
export async function restoredDatabase(command: Command): Promise<void> {
  const config = configOf(command);
  const json = wantsJson(command);
  const { yes, timeout } = command.opts<RestoredOptions>();
  const owner = await openOwner(config);
  try {
    const { acting } = await freezeAndWait(config, {
      reason: 'it came back from a backup',
      keep: true,
      timeoutMs: timeout * 1000,
      json,
    });
    if (acting.length > 0) {
      process.exitCode = EXIT.timeout;
      const sentence = `still at work: ${describeActing(acting)}; nothing was done, the realm stays frozen`;
      process.stderr.write(`${failureLine('TIMEOUT', sentence)}\n`);
      return;
    }
    const { reports, unreadable, doubt } = await surveyAll(command, config, ROLES);
    if (refuseUnread(command, unreadable, 'the realm stays frozen')) return;
    const erased = parseErasedPeople(reports.get('homes')?.erased);
    if (erased === undefined) {
      refuseUnread(command, [UNREAD_ERASURES], 'the realm stays frozen');
      return;
    }
    const seen = { ...seenIn(reports), erased };
    const given = givenIn(reports, erased);
    const renderedGiven = renderGiven(given, seen.isOlder);
    const terms = {
      by: operatorName(),
      realm: config.realm,
      portals: config.portals
        .map(({ name }) => name)
        .filter((name) => adminOfPortal(name) === undefined),
      admin: config.admin,
      tell: ({ account, uid }: { account: string; uid: number }) =>
        tellPortals(config, [], {
          event: 'person.erased',
          subject: uid,
          request: undefined,
          data: { account },
        }),
    };
    const drafted = await restore(owner, seen, { ...terms, commit: false });
    if (yes === true && refuseErasures(command, drafted.erased)) return;
    if (yes !== true) {
      print(renderRestoration(drafted, totalsBesides(reports)) + renderedGiven);
      if (!(await confirm('\nDo that, and thaw? [y/N] '))) {
        print('Nothing was done; the realm stays frozen.');
        process.exitCode = EXIT.failed;
        return;
      }
    }
    const restoration = await restore(owner, seen, { ...terms, commit: true });
    const isDirectoryOlder = doubt?.older === 'directory';
    if (json) {
      const totals = totalsBesides(reports);
      printJson({
        ...{ restored: true, ...restoration, totals, given },
        directoryIsOlder: isDirectoryOlder,
      });
      return;
    }
    if (yes === true) print(renderRestoration(restoration, totalsBesides(reports)));
    print(`\nDone, and thawed.${renderedGiven}`);
    if (isDirectoryOlder) {
      print('The directory is an older copy too: now run `chamberlain restored --directory`.');
    }
  } finally {
    await owner.end();
  }
}

/**
 * Without a question nobody is erased whom the operator has not named: whoever could write the list could else have
 * anybody erased. Says so; whether it is refused.
 */
function refuseErasures(command: Command, erased: readonly { account: string }[]): boolean {
  const { erase = [] } = command.opts<RestoredOptions>();
  const unnamed = erased.map(({ account }) => account).filter((name) => !erase.includes(name));
  if (unnamed.length === 0) return false;
  process.exitCode = EXIT.failed;
  const sentence =
    `erasures.log names ${nameFew(unnamed)}, whom this database does not know as erased; nothing was done, the realm ` +
    `stays frozen. If that is so, add --erase ${unnamed.join(',')}`;
  if (wantsJson(command)) printJson({ restored: false, toErase: unnamed });
  process.stderr.write(`${failureLine('PLAN_MOVED', sentence)}\n`);
  return true;
}

/** Of an account for which a file or a server may know a password that is not the recorded one. */
function isOfPassword({ action: { verb } }: Step): boolean {
  return verb === 'credentials.write' || verb === 'db.setVerifier';
}

/** What a seal says the rest of the plan says too; and everybody's gets another number. */
function isOfSeal({ target }: Step): boolean {
  return target === seal.name;
}

function seenIn(reports: ReadonlyMap<Role, Report>): Omit<SeenSince, 'erased'> {
  const strange = [...reports.values()].flatMap(({ steps }) => steps.filter(isOfPassword));
  return {
    strangers: [...reports.values()].flatMap(({ strangers }) => strangers ?? []),
    strangePasswords: [...new Set(strange.map(({ subject }) => subject))],
    isOlder: reports.get('directory')?.doubt?.older === 'database',
  };
}

/** Somebody who has less on a server than this database wants: perhaps it was taken away since the backup. */
interface Given {
  account: string;
  uid: number;
  steps: Pick<Step, 'target' | 'object' | 'change'>[];
}

/** By account: what adds to an entry or a database account, whatever else the same step does; who is erased gets nothing. */
function givenIn(reports: ReadonlyMap<Role, Report>, erased: readonly { uid: number }[]): Given[] {
  const isErased = new Set(erased.map(({ uid }) => uid));
  const { steps } = mergeReports(
    (['directory', 'databases'] as const).flatMap((role) => reports.get(role) ?? []),
  );
  const giving = steps.filter(
    (step) =>
      ['create', 'change'].includes(step.effect) &&
      !isOfPassword(step) &&
      !isOfSeal(step) &&
      !isErased.has(step.subject),
  );
  return [...Map.groupBy(giving, ({ subject }) => subject)].map(([uid, of]) => ({
    ...{ account: of[0]?.account ?? '', uid },
    steps: of.map(({ target, object, change }) => ({ target, object, change })),
  }));
}

function renderGiven(given: readonly Given[], isSweepHeld: boolean): string {
  if (given.length === 0) return '';
  const more = given.length - MOST_GIVEN;
  const rows = given
    .slice(0, MOST_GIVEN)
    .map(({ account, steps }) => [
      account,
      steps.map(({ object, change }) => `${object}: ${change}`).join('; '),
    ]);
  return [
    `\n\nGiven again to ${count(given.length, 'account')}, as this database wants it:`,
    renderTable(['account', 'what'], rows),
    ...(more > 0 ? [`… and ${more} more, see --json`] : []),
    'The next request about one of them does that, whatever it asks for; so does a repair, or ' +
      `${isSweepHeld ? 'the sweep\nonce it is released' : 'the next\nsweep'}. What was taken away since the ` +
      'backup, such as a key or somebody’s access, must be asked\nfor anew first.',
  ]
    .map(withoutControlsInLines)
    .join('\n');
}

function totalsBesides(reports: ReadonlyMap<Role, Report>): Totals {
  const report = mergeReports([...reports.values()]);
  return countPlan({
    ...report,
    steps: report.steps.filter((step) => !isOfPassword(step) && !isOfSeal(step)),
  });
}

/** What differs from the backup, and what is made of it. */
function renderRestoration(
  { ranges, exhausted, names, credentials, events, erased, erasing }: Restoration,
  { steps, create, change, revoke, findings }: Totals,
): string {
  const rows = [
    ...ranges.map(({ kind, first, last, from, to }) => [
      'numbers',
      `${kind} ${first}-${last}: go on at ${to}, not at ${from}${to > last ? '; none is left here' : ''}`,
    ]),
    ...(erased.length === 0
      ? []
      : [
          [
            'erased',
            `again, as erasures.log has it: ${nameFew(erased.map(({ account }) => account))}`,
          ],
        ]),
    ...(erasing.length === 0
      ? []
      : [
          [
            'erasures',
            `of ${nameFew(erasing.map(({ account }) => account))} begin in 24 h, unless stopped`,
          ],
        ]),
    ...(names.length === 0 ? [] : [['names', `taken for another’s: ${nameFew(names)}`]]),
    ...(credentials.length === 0
      ? []
      : [['passwords', `new for ${nameFew(credentials.map(({ account }) => account))}`]]),
    ...events.map(({ portal, from, to }) => [
      'events',
      `of ${portal}: go on at ${to + 1}, not at ${from + 1}`,
    ]),
  ];
  return [
    rows.length === 0
      ? 'Nothing is there that this database does not know.'
      : renderTable(['what', 'how it goes on'], rows),
    ...exhausted.map(
      (kind) => `No number is left for a ${kind}: add a range to the configuration.`,
    ),
    ...(steps === 0 && findings === 0
      ? []
      : [
          `\nBesides, what stands there differs from what this database wants: ${count(steps, 'step')} (${create} create, ` +
            `${change} change,\n${revoke} revoke), ${count(findings, 'finding')}. Read \`chamberlain plan --all\`.`,
        ]),
  ]
    .map(withoutControlsInLines)
    .join('\n');
}

function withoutControlsInLines(text: string): string {
  return text.replace(/[^\P{C}\n]/gu, '?');
}
