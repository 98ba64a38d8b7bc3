/**
 * The figures of the ends of accounts, each next to its floor:
 *
 *   suspend  one person after another: from the request to the revocation of the last access, on a login host,
 *            in the directory and on the database servers
 *   rotate   the passwords of every account, by one request
 *   archive  a home of 200,000 files, next to a plain `tar | zstd` of it
 */
import { join } from 'node:path';
import { openLoginHost } from '../dev/servers/login-host.ts';
import { ensureSigningKey } from '../dev/servers/secret.ts';
import { renderProfile } from './tools/cpu-profile.ts';
import { type Figure, judge, quantile, voidIfFailed } from './tools/figure.ts';
import { LIFECYCLE_GOALS, type LifecycleOptions } from './goals.ts';
import { untilSealed } from './growth.ts';
import { measureArchives } from './lifecycle/lifecycle-archive.ts';
import { type Closing, openAccess } from './lifecycle/lifecycle-access.ts';
import { rotateAll, rotationFloor } from './lifecycle/lifecycle-rotate.ts';
import { readCpu, renderCpu } from './load.ts';
import { populate } from './population/population.ts';
import { cpuSeconds, untilQuiet } from './tools/processes.ts';
import { closeAll, type Closers, closeSoon, openWorking, type WorkingRealm } from './realm.ts';

const GOALS = LIFECYCLE_GOALS;

/** Measures all figures of the ends of accounts. */
export async function measureLifecycle(options: LifecycleOptions): Promise<Figure[]> {
  const closers: Closers = [];
  try {
    return await Promise.race([measureAll(options, closers), options.interrupted]);
  } finally {
    await closeAll(closers);
  }
}

async function measureAll(options: LifecycleOptions, closers: Closers): Promise<Figure[]> {
  const { size, say } = options;
  const { tools, people } = size;
  say(`filling a realm with ${tools} tools and ${people} people`);
  const working = await openWorking(options, closers, (realm) =>
    populate(realm, { tools, people }, (line) => say(`  ${line}`)),
  );
  await untilSealed(working.realm);
  await untilQuiet(working.work.pid);
  // before any suspension: a suspended person has another password
  const rotations = await voidIfFailed([GOALS.rotations], say, () =>
    measureRotations(working, options),
  );
  const suspensions = await voidIfFailed([GOALS.suspendP50, GOALS.suspendP95], say, () =>
    measureSuspensions(working, options, closers),
  );
  const archives = await voidIfFailed([GOALS.archive, GOALS.memory], say, () =>
    measureArchive(working, options, closers),
  );
  return [...suspensions, ...archives, ...rotations];
}

async function measureSuspensions(
  { realm, portal, work }: WorkingRealm,
  { size, say, show, void: why }: LifecycleOptions,
  closers: Closers,
): Promise<Figure[]> {
  say('suspend: installing a login host');
  const { config, stack } = realm;
  const opening = openLoginHost({
    ...{ folder: join(stack.place.dir, 'login-host'), ldapUri: stack.slapd.tcpUri() },
    ...{ base: config.ldap.base, realm: config.realm, ids: config.ids },
    ...{ secrets: config.secrets, dataRoot: stack.place.dataRoot },
    sealKeys: [ensureSigningKey(join(config.secrets, 'seal-key'))],
  });
  closers.push(async () => {
    const host = await opening.catch(() => undefined);
    await host?.close();
  });
  const host = await opening;
  await host.start();
  const access = await openAccess(realm, portal, host, size);
  closers.push(() => closeSoon(access.close()));
  await untilQuiet(work.pid);
  say(`suspend: ${size.suspensions} people, one after another`);
  const floors: number[] = [];
  const samples: Closing[] = [];
  for (let n = 0; n < size.suspensions; n++) {
    floors.push(await access.floor(n));
    samples.push(await access.suspend(n));
  }
  const last = samples.map((each) => Math.max(...Object.values(each)));
  show(
    renderAccess(`${samples.length} suspensions, until each access is revoked`, [
      ...Object.keys(samples[0] ?? {}).map(
        (name) => [name, samples.map((each) => each[name] ?? 0)] as const,
      ),
      ['the last of them', last],
      ['the floor: the same writes by plain programs', floors],
    ]),
  );
  const at = (goal: typeof GOALS.suspendP50 | typeof GOALS.suspendP95, share: number) =>
    judge(goal, { value: quantile(last, share), floor: quantile(floors, share), void: why });
  return [at(GOALS.suspendP50, 0.5), at(GOALS.suspendP95, 0.95)];
}

async function measureRotations(
  { realm, portal, work }: WorkingRealm,
  { size, profileDir, say, show, void: why }: LifecycleOptions,
): Promise<Figure[]> {
  say(`rotate: the floor of ${size.floorRotations}`);
  const floor = await rotationFloor(realm, size.floorRotations);
  const floorRate = size.floorRotations / (Math.max(...Object.values(floor)) / 1000);
  show(
    [
      `Plain loops in parallel over ${size.floorRotations} accounts, ms:`,
      ...Object.entries(floor).map(([name, ms]) => `${ms.toFixed(0).padStart(8)}  ${name}`),
    ].join('\n'),
  );
  if (profileDir !== undefined) {
    await work.stop();
    Object.assign(work, await realm.startWork({ profileDir }));
  }
  const before = readCpu(realm);
  const workBefore = cpuSeconds(work.pid);
  const { accounts, seconds } = await rotateAll(realm, portal, (line) => say(`rotate: ${line}`));
  const cpu = { 'chamberlain work': cpuSeconds(work.pid) - workBefore, ...readCpu(realm, before) };
  show(renderCpu(`the rotation of ${accounts} accounts`, cpu, accounts, seconds));
  if (profileDir !== undefined) {
    await work.stop();
    show(renderProfile(profileDir, { program: 'chamberlain work, over a rotation,' }));
    Object.assign(work, await realm.startWork());
  }
  const profiled = profileDir === undefined ? undefined : 'the workers were profiled';
  const value = accounts / seconds;
  return [
    judge(GOALS.rotations, {
      ...{ value, floor: floorRate, ratio: value / floorRate },
      void: why ?? profiled,
    }),
  ];
}

async function measureArchive(
  { realm }: WorkingRealm,
  { size, say, show, void: why }: LifecycleOptions,
  closers: Closers,
): Promise<Figure[]> {
  const measured = await measureArchives(realm, size, (line) => say(`archive: ${line}`), closers);
  const { bytes, plainMs, archiveMs, packedBytes, peakMib, ownPeakMib, plainPeakMib } = measured;
  const seconds = (ms: readonly number[]) => ms.map((each) => (each / 1000).toFixed(2)).join(', ');
  show(
    [
      `A home of ${size.files} files, ${(bytes / 2 ** 20).toFixed(0)} MiB, packed ${(packedBytes / 2 ** 20).toFixed(0)} MiB, s:`,
      `  tar | zstd: the floor: ${seconds(plainMs)}`,
      `  counted, packed, fsynced, read back and compared, with its SHA-256: ${seconds(archiveMs)}`,
      `Peak memory: ${ownPeakMib.toFixed(0)} MiB our own process, ${peakMib.toFixed(0)} MiB with its programs; ` +
        `${plainPeakMib.toFixed(0)} MiB tar and zstd.`,
    ].join('\n'),
  );
  const [plain, ours] = [quantile(plainMs, 0.5), quantile(archiveMs, 0.5)];
  const ratio = plain / ours;
  return [
    judge(GOALS.archive, { value: ratio, floor: bytes / (plain / 1000), ratio, void: why }),
    judge(GOALS.memory, { value: peakMib, floor: plainPeakMib, void: why }),
  ];
}

function renderAccess(
  title: string,
  rows: readonly (readonly [name: string, ms: readonly number[]])[],
): string {
  return [
    `${title}, ms:`,
    '     p50     p95     max',
    ...rows.map(([name, samples]) => {
      const times = [0.5, 0.95, 1].map((share) => quantile(samples, share).toFixed(0).padStart(8));
      return `${times.join('')}  ${name}`;
    }),
  ].join('\n');
}
