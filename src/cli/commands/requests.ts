/** `chamberlain requests`: the requests that wait for an admin, and the verdict on each request. */
import { ChamberlainError } from '../../shared/errors.ts';
import { timeOf } from '../../shared/time.ts';
import {
  type OpenAccessRequest,
  readOpenAccessRequests,
  readWaitingRequests,
  type WaitingRequest,
} from '../../database/overview.ts';
import type { Client } from '../../database/connection.ts';
import {
  findRequests,
  readOpenTouches,
  readRequests,
  type RequestView,
  stateOf,
} from '../../requests/request-progress.ts';
import type { Command } from '../command.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { printPage } from '../fold.ts';
import { limitUpTo } from '../options/limit.ts';
import { nameFew, printable } from '../../shared/printable.ts';
import { paint, print, printJson, renderAge, renderColumns, renderTable } from '../table.ts';
import { withAdmin } from '../admin.ts';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/iu;

export function define(command: Command): void {
  command
    .description(
      'Shows what waits for an admin: requests for access, and requests that another admin must approve.\n' +
        'Then shows the verdict on each request, newest first. With ID, shows one request, and the parts\n' +
        'of it that are not applied yet.',
    )
    .argument('[ID]', 'the id that `submit` printed, or the number in the first column')
    .option('--limit <count>', 'how many verdicts', limitUpTo(10_000), 50)
    .examples(
      'requests',
      'requests --limit 500 --json',
      'requests 5f0c4c1e-0b6d-4f0e-9a57-0c3f6a1f2b11',
      'submit access.grant --person alice',
      'submit request.approve --request 38 --wait',
    )
    .exits()
    .action(async (id: string | undefined) => {
      const json = wantsJson(command);
      const { limit } = command.opts<{ limit: number }>();
      if (id !== undefined && !UUID.test(id) && !/^[0-9]{1,18}$/u.test(id)) {
        throw new ChamberlainError('USAGE', `'${id}' is neither a UUID nor a number`);
      }
      await withAdmin(configOf(command), (client) =>
        id === undefined ? showAll(client, limit, json) : showOne(client, id, json),
      );
    });
}

async function showAll(client: Client, limit: number, json: boolean): Promise<void> {
  const waiting = await readOpenAccessRequests(client);
  const toApprove = await readWaitingRequests(client);
  const requests = await readRequests(client, limit);
  if (json) {
    printJson({ waiting, toApprove, requests });
    return;
  }
  if (toApprove.length > 0) printPage(`${renderToApprove(toApprove)}\n`);
  if (waiting.length > 0) printPage(`${renderWaiting(waiting)}\n`);
  printPage(
    renderColumns(requests, [
      ['number', (r) => r.number],
      ['age', (r) => renderAge(r.at, new Date())],
      ['id', (r) => r.id],
      ['portal', (r) => r.portal],
      ['kind', (r) => r.kind],
      ['by', (r) => r.requestedBy],
      ['subject', (r) => subjectOf(r, FEW_NAMED)],
      ['verdict', stateOf],
      ['why', why],
    ]),
  );
}

async function showOne(client: Client, id: string, json: boolean): Promise<void> {
  const found = await findRequests(client, id);
  if (found.length === 0) {
    throw new ChamberlainError('USAGE', `no request ${id} has a verdict`, {
      action:
        'Check the id. If the request was sent, `chamberlain status` shows what it waits for.',
    });
  }
  for (const request of found) {
    const open = await readOpenTouches(client, request.number);
    if (json) {
      printJson({ ...request, open });
      continue;
    }
    const rows: [string, string | null][] = [
      ['number', request.number],
      ['portal', request.portal],
      ['kind', request.kind],
      ['requested by', request.requestedBy],
      ['approved by', approversOf(request)],
      ['subject', subjectOf(request, MOST_NAMED)],
      ['verdict', stateOf(request)],
      ['why', why(request)],
      ['at', timeOf(request.at)],
      ['done', isDone(request) && request.doneAt !== null ? timeOf(request.doneAt) : null],
    ];
    print(paint('bold', request.id ?? `request ${request.number}`));
    for (const [name, value] of rows) printPage(`  ${name.padEnd(12)}  ${printable(value || '-')}`);
    if (open.length > 0) {
      print('');
      printPage(
        renderColumns(open, [
          ['account', (r) => r.account],
          ['role', (r) => r.role],
          ['state', (r) => (r.applied ? 'applied' : r.state)],
          ['why', (r) => [r.code, r.sentence].filter(Boolean).join(': ')],
        ]),
      );
    }
  }
}

/** How many accounts are named: in a table, and on the page of one request. The JSON names all. */
const FEW_NAMED = 3;
const MOST_NAMED = 40;

function subjectOf({ account, accounts }: RequestView, most: number): string | null {
  return accounts.length === 0 ? account : nameFew(accounts, most);
}

function renderWaiting(waiting: readonly OpenAccessRequest[]): string {
  const now = new Date();
  return `${paint('bold', 'Waiting for access')}\n${renderTable(
    ['person', 'display name', 'since', 'portal', 'reason'],
    waiting.map((w) => [w.person, w.displayName, renderAge(w.since, now), w.portal, w.reason]),
  )}`;
}

/** The admin that it waited for; before that, whoever approved it at a portal, if that was somebody else. */
function approversOf({ requestedBy, approvedBy, approval }: RequestView): string | null {
  if (approval === null) return approvedBy;
  return [
    ...(approvedBy === requestedBy || approvedBy === null ? [] : [approvedBy]),
    ...(approval.state === 'approved' ? [approval.decidedBy ?? '?'] : []),
  ].join(', then ');
}

/** A request that an admin has not allowed is not done, though nothing of it is open. */
function isDone({ approval, access }: RequestView): boolean {
  if (access !== null) return access.state === 'granted';
  return approval === null || approval.state === 'approved';
}

/** An admin decides on each by its number, with their own key: so the commands are shown below the table. */
function renderToApprove(waiting: readonly WaitingRequest[]): string {
  const now = new Date();
  return [
    paint('bold', 'Waiting for an admin'),
    renderColumns(waiting, [
      ['number', (w) => w.number],
      ['id', (w) => w.id],
      ['portal', (w) => w.portal],
      ['kind', (w) => w.kind],
      ['subject', (w) => w.account],
      ['by', (w) => w.requestedBy],
      ['since', (w) => renderAge(w.since, now)],
      ['why', (w) => (w.reason ? `${w.why} (“${w.reason}”)` : w.why)],
    ]),
    paint('dim', 'chamberlain submit request.approve --request NUMBER --wait'),
    paint('dim', 'chamberlain submit request.reject --request NUMBER --reason WHY --wait'),
  ].join('\n');
}

function why({ code, sentence, approval, access }: RequestView): string {
  if (code !== null || sentence !== null) return [code, sentence].filter(Boolean).join(': ');
  if (access !== null) {
    const { state, decidedBy, reason } = access;
    if (state === 'open') return 'An admin must grant or refuse the access.';
    return [`${state} by ${decidedBy ?? '?'}`, reason].filter(Boolean).join(': ');
  }
  if (approval === null) return '';
  if (approval.state === 'open') return approval.why;
  const decided = `${approval.state} by ${approval.decidedBy ?? '?'}`;
  return [decided, approval.reason].filter(Boolean).join(': ');
}
