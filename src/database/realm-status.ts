/** What PostgreSQL knows of the realm's state, for `chamberlain status` and the API. Read only. */
import type { Config } from '../shared/config.ts';
import { type ConfigStatus, readConfigStatus } from '../configuration/configurations-table.ts';
import { type OverdueMove, readOverdue } from '../lifecycle/calendar-queries.ts';
import { type LeavingOverview, readLeavingOverview } from '../lifecycle/leaving-facts.ts';
import { type NumbersLeft, readNumbersLeft } from '../identity/id-allocation-table.ts';
import { type JunkCount, readJunk } from '../requests/junk-table.ts';
import { readDoubt } from '../seals/heartbeat-table.ts';
import { type PlaceDoubt, readPlaceDoubts } from '../seals/place-markers-table.ts';
import { sweepFault } from '../drift/sweep-fault.ts';
import { readLastSweeps, type Sweep } from '../drift/sweeps-table.ts';
import { countUndecided } from '../unmanaged/unmanaged-table.ts';
import type { Client } from './connection.ts';
import { type Freeze, readFreeze } from './freeze.ts';
import {
  type Absent,
  type Holder,
  type Leader,
  readAbsent,
  readHolders,
  readLeaders,
} from './locks.ts';
import * as overview from './overview.ts';
import { readTroubles, type Trouble } from './troubles-table.ts';

/** How many rows that are behind are read. The totals count all of them. */
const BEHIND_LIMIT = 100;

/** What blocks the work. */
export interface KnownBlockers {
  frozen: Freeze | null;
  /** the sweep that an admin must release */
  heldSweep: Sweep | null;
  /** why the directory, or PostgreSQL, seems to be an older copy of itself */
  doubt: string | null;
  /** the MariaDB servers and areas of homes whose marker shows that they, or PostgreSQL, are older copies */
  places: PlaceDoubt[];
  /** moves of the calendar that are overdue; none while the realm is frozen, when none may be made */
  overdue: OverdueMove[];
  /** servers and folders that a role cannot read */
  troubles: Trouble[];
  /** the last sweep that has ended, in any state */
  lastSweep: Pick<Sweep, 'endedAt' | 'state'> | null;
  /** what is wrong with the last sweeps, and what to do */
  sweepFault: string | null;
  /** the processes that do the work of which only one process at a time may do each kind */
  leaders: Leader[];
  /** the work and the roles that no process does */
  absent: Absent;
  /** which process holds which of our locks */
  holders: Holder[];
  configuration: ConfigStatus;
}

export async function readKnownBlockers(client: Client, config: Config): Promise<KnownBlockers> {
  const frozen = (await readFreeze(client)) ?? null;
  const leaders = await readLeaders(client);
  const sweeps = await readLastSweeps(client);
  const { ended } = sweeps;
  const fault = sweepFault(sweeps, config.sweep, new Date());
  return {
    frozen,
    overdue: frozen === null ? await readOverdue(client, new Date()) : [],
    heldSweep: sweeps.held ?? null,
    sweepFault: fault === undefined ? null : `${capitalised(fault.what)}. ${fault.todo}`,
    doubt: (await readDoubt(client)).doubt,
    places: (await readPlaceDoubts(client)).filter(
      ({ role, older }) => role !== 'directory' && older !== null,
    ),
    troubles: await readTroubles(client),
    lastSweep: ended === undefined ? null : { endedAt: ended.endedAt, state: ended.state },
    leaders,
    absent: await readAbsent(client, leaders),
    holders: await readHolders(client),
    configuration: await readConfigStatus(client, config),
  };
}

export function capitalised(sentence: string): string {
  return sentence.charAt(0).toUpperCase() + sentence.slice(1);
}

/** How far the work is, and what waits for somebody. */
export interface Work {
  numbers: NumbersLeft[];
  totals: overview.RoleTotal[];
  behind: overview.RoleStatus[];
  leaving: LeavingOverview;
  portals: overview.PortalEvents[];
  junk: JunkCount[];
  oldestRequest: overview.OldestRequest | null;
  waitingForApproval: overview.OpenAccessRequest[];
  toApprove: overview.WaitingRequest[];
  unmanaged: Awaited<ReturnType<typeof countUndecided>>;
}

export async function readWork(client: Client): Promise<Work> {
  return {
    numbers: await readNumbersLeft(client),
    totals: await overview.readRoleTotals(client),
    behind: await overview.readBehind(client, BEHIND_LIMIT),
    leaving: await readLeavingOverview(client),
    portals: await overview.readPortalEvents(client),
    junk: await readJunk(client),
    oldestRequest: (await overview.readOldestRequest(client)) ?? null,
    waitingForApproval: await overview.readOpenAccessRequests(client),
    toApprove: await overview.readWaitingRequests(client),
    unmanaged: await countUndecided(client),
  };
}
