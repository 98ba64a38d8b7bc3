/** A bootstrapped realm in which the test acts as intake: each request gets its verdict at once. */
import { type KeyObject, randomUUID } from 'node:crypto';
import type { Client } from 'pg';
import { ADMINS_QUEUE, type Config } from '../../src/shared/config.ts';
import { findAdminKeys } from '../../src/requests/admin-keys-table.ts';
import { fingerprintOf } from '../../src/ssh-keys/ed25519-key.ts';
import { readSigningKey, signToken } from '../../src/requests/token.ts';
import { bootstrap } from '../../src/requests/bootstrap.ts';
import { checkJob, checkVerdict, giveVerdict, type Verdict } from '../../src/requests/verdict.ts';
import { writeEvents } from '../../src/events/events-table.ts';
import {
  openLease,
  openPool,
  type Pool,
  rehearse,
  transact,
} from '../../src/database/connection.ts';
import { openWorld, type World } from '../stack.ts';

/** A request in a short form. */
export type Wish = { kind: string; requestedBy: string } & Record<string, unknown>;

export interface AskOptions {
  jti?: string;
  now?: Date;
  /** signs by this admin's own key: `steward`, or `second` */
  as?: string;
  /** signs by a key that the configuration does not list */
  own?: { admin: string; key: KeyObject };
  /** only asks what the verdict would be */
  check?: true;
}

export interface BootstrappedRealm {
  world: World;
  owner: Pool;
  /** intake's own connection */
  intake: Client;
  /** Signs as the portal `portal`, approved by the requester, and gives the verdict. */
  ask(request: Wish, config?: Config, options?: AskOptions): Promise<Verdict>;
  /** Lets eight days pass since anybody was made an admin: all count as other admins for each other. */
  ageAdmins(): Promise<void>;
  close(): Promise<void>;
}

/** Needs only PostgreSQL. `steward` is the admin. */
export async function openBootstrappedRealm(name: string): Promise<BootstrappedRealm> {
  const world = withSecondAdmin(await openWorld(name, { needs: ['postgres'] }));
  const owner = openPool(world.config, 'owner', { max: 2, durable: false });
  await bootstrap(owner, world.config, 'steward', {
    displayName: 'Steward',
    email: 's@example.org',
  });
  const { client: intake } = (await openLease(world.config, 'intake'))!;
  return {
    world,
    owner,
    intake,
    async ask(
      request,
      config = world.config,
      { jti = randomUUID(), now = new Date(), as, own, check } = {},
    ) {
      const whose = own?.admin ?? as;
      const portal = whose === undefined ? 'portal' : `admin.${whose}`;
      const file = as === undefined ? world.portalKey : keyOf(world, as);
      const token = await signToken(own?.key ?? readSigningKey(file), {
        portal,
        realm: config.realm,
        kid:
          own === undefined
            ? config.portals.find((each) => each.name === portal)!.keys[0]!.kid
            : fingerprintOf(own.key),
        jti,
        sub: request.requestedBy,
        request,
        check,
        now,
      });
      const adminKeys = own && (await findAdminKeys(intake, [fingerprintOf(own.key)]));
      const queue = own === undefined ? portal : ADMINS_QUEUE;
      const job = await checkJob(config, queue, { token }, now, adminKeys);
      if (!('signed' in job)) throw new Error(`no request: ${job.sentence}`);
      const of = { urgentQueue: false, now };
      if (check === true) return rehearse(intake, () => checkVerdict(intake, config, job, of));
      return transact(intake, async () => {
        const given = await giveVerdict(intake, config, job, of);
        await writeEvents(intake, given.events);
        return given.verdict;
      });
    },
    async ageAdmins() {
      await owner.query(`UPDATE admin_additions SET at = at - interval '8 days'`);
    },
    async close() {
      await intake.end();
      await owner.end();
      await world.close();
    },
  };
}

/** A person with an own key in the configuration, who is not an admin yet. */
const SECOND = 'second';

function withSecondAdmin(world: World): World {
  const { publicKey } = world.makeKey(`admin.${SECOND}`);
  const portal = {
    name: `admin.${SECOND}`,
    keys: [{ kid: SECOND, publicKey }],
    kinds: 'all' as const,
    subjectEvents: false,
    speaksForAdmins: false,
    verifiesMail: false,
    events: 'queue' as const,
    reads: [],
  };
  return { ...world, config: { ...world.config, portals: [...world.config.portals, portal] } };
}

function keyOf(world: World, admin: string): string {
  return admin === SECOND ? world.makeKey(`admin.${SECOND}`).file : world.adminKey;
}
