/** The tables `repairs` and `repair_parts`, as the role that does the parts uses them. */
import type { Role, Wanted } from '../reconcile/wanted.ts';
import {
  type BehindRow,
  lockSubjects,
  type Outcome,
  sentenceColumn,
  unlock,
  writeOutcomes,
} from '../reconcile/convergence-table.ts';
import { isFrozen } from '../database/freeze.ts';
import { type Client, type Pool, withClient } from '../database/connection.ts';
import { readWanted } from '../reconcile/wanted-queries.ts';

/**
 * A job that is found later does nothing: its caller was told long ago that there was no answer, and no longer
 * expects one.
 */
const EXPIRES_AFTER = '1 hour';

/** Which steps of a plan are part of a repair. */
export interface RepairTerms {
  destroy: boolean;
  target: string | undefined;
}

/** A part that a worker is given under the lock of its subject. */
export interface HeldPart {
  subject: number;
  /** undefined if the subject no longer exists */
  wanted: Wanted | undefined;
  /** of the steps that were read */
  digest: string;
  /** the side conditions of the plan that was read, see `sideConditionsOf` */
  sideConditions: readonly string[];
  /** as in `Held`; undefined if the subject's row is not behind */
  attempts: number | undefined;
}

/** How a part ended. */
export interface PartEnd {
  subject: number;
  state: 'done' | 'refused' | 'failed';
  code?: string;
  sentence?: string;
  /** what to write to the subject's row, if it is behind; undefined leaves it as it is */
  outcome?: Outcome;
}

interface PartRow {
  subject: number;
  digest: string;
  sideConditions: string[];
  destroy: boolean;
  target: string | null;
  /** the generation, and the number of earlier refusals; null if the row is not behind */
  wanted: string | null;
  attempts: number | null;
}

const PARTS = `
  SELECT p.subject, p.digest, p.side_conditions AS "sideConditions", r.destroy, r.target, c.wanted, c.attempts
  FROM repair_parts p JOIN repairs r ON r.id = p.repair
    LEFT JOIN convergence c ON c.subject = p.subject AND c.role = p.role AND c.applied < c.wanted
  WHERE p.repair = $1 AND p.role = $2 AND p.subject = ANY ($3) AND p.state = 'asked'
    AND r.at > now() - interval '${EXPIRES_AFTER}'`;

const END = `
  UPDATE repair_parts p SET state = e.state, code = e.code, sentence = e.sentence, ended_at = now()
  FROM unnest($3::int[], $4::text[], $5::text[], $6::text[]) AS e (subject, state, code, sentence)
  WHERE p.repair = $1 AND p.role = $2 AND p.subject = e.subject AND p.state = 'asked'`;

/**
 * Locks the subjects of a repair for a role as `withSubjects` does, then runs `act` with the parts that have not
 * ended and on which no other process works, and writes how they ended. A part that is not given to `act`, or has
 * no end afterwards, stays `asked`. Does nothing if the realm is frozen.
 *
 * @param repair a UUID
 */
export async function withParts(
  pool: Pool,
  role: Role,
  { repair, subjects }: { repair: string; subjects: readonly number[] },
  act: (held: readonly HeldPart[], terms: RepairTerms, client: Client) => Promise<PartEnd[]>,
): Promise<void> {
  await withClient(pool, async (client) => {
    try {
      const [locked, frozen, parts, wanted] = await Promise.all([
        lockSubjects(client, subjects),
        isFrozen(client),
        // read the generation before the wanted state, and both under the locks
        client.query({ name: 'read-parts', text: PARTS, values: [repair, role, subjects] }),
        readWanted(client, role, subjects),
      ]);
      const mine = new Set(locked);
      const rows = (parts.rows as PartRow[]).filter(({ subject }) => mine.has(subject));
      const [first] = rows;
      if (frozen || first === undefined) {
        await unlock(client);
        return;
      }
      const wantedOf = new Map(wanted.map((each) => [each.uid, each]));
      const held = rows.map(({ subject, digest, sideConditions, attempts }): HeldPart => ({
        subject,
        wanted: wantedOf.get(subject),
        digest,
        sideConditions,
        attempts: attempts ?? undefined,
      }));
      const terms = { destroy: first.destroy, target: first.target ?? undefined };
      const ends = await act(held, terms, client);
      await writeEnds(client, role, { repair, rows, ends });
    } catch (error) {
      await unlock(client);
      throw error;
    }
  });
}

/** Writes the rows first, because whoever reads an end may look at them. */
async function writeEnds(
  client: Client,
  role: Role,
  { repair, rows, ends }: { repair: string; rows: readonly PartRow[]; ends: readonly PartEnd[] },
): Promise<void> {
  const outcomes = new Map(
    ends.flatMap(({ subject, outcome }): [number, Outcome][] =>
      outcome === undefined ? [] : [[subject, outcome]],
    ),
  );
  const behind = rows.flatMap(({ subject, wanted, attempts }): BehindRow[] =>
    wanted === null || !outcomes.has(subject) ? [] : [{ subject, wanted, attempts: attempts ?? 0 }],
  );
  await writeOutcomes(client, role, behind, outcomes);
  await Promise.all([
    client.query({
      name: 'end-parts',
      text: END,
      values: [
        repair,
        role,
        ends.map(({ subject }) => subject),
        ends.map(({ state }) => state),
        ends.map(({ code }) => code ?? null),
        ends.map(({ sentence }) => sentenceColumn(sentence)),
      ],
    }),
    unlock(client),
  ]);
}
