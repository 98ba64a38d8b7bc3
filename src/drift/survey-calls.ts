/**
 * Calls surveys through PostgreSQL alone, for callers that wait a tenth of a second at most: one statement writes
 * the row and notifies every role, without a queue. A call that a role does not hear is lost, so the caller repeats it; a role that answers
 * already ignores it.
 */
import type { Pool } from '../database/connection.ts';
import { type Hearing, hearChannel } from '../database/notices.ts';

/** The channel on which every role receives the ids of surveys to answer. */
export const SURVEY_CALLS = 'chamberlain_surveys';

/** Listens for calls until it is closed, on a connection of its own with the settings of the pool. */
export function hearCalls(pool: Pool, onCall: (survey: string) => void): Hearing {
  return hearChannel(pool, SURVEY_CALLS, onCall);
}
