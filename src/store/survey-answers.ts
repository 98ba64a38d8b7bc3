/** The tables `surveys` and `reports`, from the side of the one who asks. */
import { Client } from 'pg';
import type { Config } from '../config.ts';
import { ChamberlainError } from '../errors.ts';
import type { Role } from '../model/wanted.ts';
import type { Report } from '../plan/report.ts';
import { connectionSettings } from './postgres.ts';

/** Notices may be lost, so the table is looked at this often besides. */
const POLL_MS = 500;

/** A survey whose reports nobody has fetched is thrown away after this time. */
const KEEP_SURVEYS = '1 hour';

/** A survey that is asked for. */
export interface Survey {
  /**
   * The reports, by role, as soon as every role has answered, or what there is after `timeoutMs`.
   * Afterwards the survey is gone, unless an answer is missing: a late one must find its row.
   */
  collect(roles: readonly Role[], timeoutMs: number): Promise<Map<Role, Report>>;
  close(): Promise<void>;
}

/**
 * Records a survey; the roles must then be told by their queues.
 *
 * @param subjects uids, or undefined for every subject
 */
export async function openSurvey(
  config: Config,
  id: string,
  subjects: readonly number[] | undefined,
): Promise<Survey> {
  const client = new Client(connectionSettings(config, 'admin'));
  let wake: (() => void) | undefined;
  let broken: Error | undefined;
  client.on('notification', ({ payload }) => {
    if (payload === id) wake?.();
  });
  client.on('error', (error) => {
    broken = error;
    wake?.();
  });
  try {
    await client.connect();
    await client.query('LISTEN chamberlain_reports');
    await client.query(`DELETE FROM surveys WHERE at < now() - interval '${KEEP_SURVEYS}'`);
    await client.query('INSERT INTO surveys (id, subjects) VALUES ($1, $2)', [
      id,
      subjects ?? null,
    ]);
  } catch (cause) {
    await client.end().catch(() => {});
    throw new ChamberlainError('BACKEND_UNAVAILABLE', 'asking for a survey', { cause });
  }

  async function read(): Promise<Map<Role, Report>> {
    const { rows } = await client.query('SELECT role, report FROM reports WHERE survey = $1', [id]);
    return new Map((rows as { role: Role; report: Report }[]).map((row) => [row.role, row.report]));
  }

  return {
    async collect(roles, timeoutMs) {
      const deadline = performance.now() + timeoutMs;
      try {
        for (;;) {
          const woken = new Promise<void>((resolve) => (wake = resolve));
          const reports = await read();
          if (roles.every((role) => reports.has(role))) {
            await client.query('DELETE FROM surveys WHERE id = $1', [id]);
            return reports;
          }
          const leftMs = deadline - performance.now();
          if (leftMs <= 0) return reports;
          await Promise.race([woken, sleep(Math.min(POLL_MS, leftMs))]);
          if (broken !== undefined) throw broken;
        }
      } catch (cause) {
        throw new ChamberlainError('BACKEND_UNAVAILABLE', 'reading the reports of a survey', {
          cause,
        });
      }
    },
    async close() {
      await client.end().catch(() => {});
    },
  };
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
