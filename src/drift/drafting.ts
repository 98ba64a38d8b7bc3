/** What a repair is made of, before anybody asks the roles: for the command, and for the request repair.run. */
import type { Client } from '../database/connection.ts';
import { readFreeze } from '../database/freeze.ts';
import { readBehind, readBehindOf } from '../database/overview.ts';
import type { Policy } from '../reconcile/policy.ts';
import type { Report } from '../reconcile/report.ts';
import type { Role } from '../reconcile/wanted.ts';
import { ChamberlainError } from '../shared/errors.ts';
import { type AskedPart, draftParts } from './repair-parts.ts';

/** Throws FROZEN while the realm is frozen. */
export async function refuseFrozen(client: Client): Promise<void> {
  const frozen = await readFreeze(client);
  if (frozen === undefined) return;
  const { frozenBy, reason } = frozen;
  const why = reason === null ? '' : `: ${reason}`;
  throw new ChamberlainError('FROZEN', `frozen by ${frozenBy}${why}; nothing was done`);
}

/** The parts that follow from the reports, with the subjects that a role has given up on, and the steps that are withheld. */
export async function draftRepair(
  client: Client,
  reports: ReadonlyMap<Role, Report>,
  { subjects, ...policy }: Policy & { subjects: readonly number[] | undefined },
): Promise<ReturnType<typeof draftParts>> {
  const behind = await (subjects === undefined
    ? readBehind(client)
    : readBehindOf(client, subjects));
  // a repair of one target does not correct all that a role has given up on
  const givenUp = behind.filter(({ state }) => state === 'parked' && policy.target === undefined);
  return draftParts(reports, policy, givenUp);
}

/** What the audit says of each subject: which targets are repaired. */
export function actsOf(
  parts: readonly AskedPart[],
): { subject: number; account: string; fields: string[] }[] {
  return [...Map.groupBy(parts, ({ subject }) => subject)].map(([subject, of]) => ({
    subject,
    account: of[0]?.account ?? '',
    fields: [...new Set(of.flatMap(({ steps }) => steps.map(({ target }) => target)))],
  }));
}
