/** How a person or a tool leaves, as the text of `status` and `explain`. Pure. */
import type { ArchivePage, ArchivalPage, LeavingPage, NextMove } from './leaving-page.ts';
import { endOfHold, isWithoutEnd, timeOf } from '../shared/time.ts';

/** The rows for a page about one subject: a name and a text each. */
export function leavingRows(
  {
    hold,
    closed,
    deleteAfter,
    erasing,
    orphanedAt,
    waiting,
    approved,
    archivals,
    next,
  }: LeavingPage,
  {
    kind,
    account,
    state,
    now,
  }: { kind: 'person' | 'tool'; account: string; state: string; now: Date },
): [name: string, value: string][] {
  const word = kind === 'person' ? 'suspended' : 'disabled';
  const rows: [string, string][] = [];
  if (closed !== null) rows.push([word, describeClosed(closed)]);
  if (hold !== null) {
    rows.push([
      'held',
      `since ${timeOf(hold.at)} by ${hold.by} “${hold.reason}”, until ${endOfHold(hold.until)}; not archived or deleted before then`,
    ]);
  }
  for (const each of waiting) {
    rows.push([
      'waits',
      `${each.kind}, requested by ${each.requestedBy} ${timeOf(each.at)}, request ${each.request}: ${each.why}`,
    ]);
  }
  if (approved !== null) {
    const { kind: of, requestedBy, by, at } = approved;
    rows.push(['approved', `${of}, requested by ${requestedBy}, approved by ${by} ${timeOf(at)}`]);
  }
  if (next !== null) rows.push(['next', describeNext(next, now)]);
  if (erasing !== null) {
    rows.push([
      'to cancel',
      `until then: \`chamberlain submit request.reject --request ${erasing.request} --reason …\``,
    ]);
  }
  const isKept = state === 'deleted' && (next?.move === 'remove archives' || next?.move === 'held');
  if (isKept) {
    const command = commandToRestore({ kind, account, state });
    rows.push(['to restore', `until then: \`chamberlain ${command}\``]);
  }
  if (orphanedAt !== null && state !== 'deleted') {
    const isLeaving = state === 'archived' || deleteAfter !== null;
    const advice = isLeaving ? '' : '; an admin can add a maintainer with maintainer.add';
    rows.push([
      'orphaned',
      `since ${timeOf(orphanedAt)}: it has no maintainer who may log in${advice}`,
    ]);
  }
  for (const archival of archivals) {
    if (archival.erasure !== null) {
      const { requestedBy, approvedBy } = archival.erasure;
      const by = `requested by ${requestedBy}, approved by ${approvedBy}`;
      rows.push(['erased', `${timeOf(archival.beganAt)}, ${by}`]);
      continue;
    }
    rows.push(['archived', describeArchival(archival)]);
    for (const archive of archival.archives) {
      const text = describeArchive(archive, archival);
      if (text !== '') rows.push(['archive', text]);
    }
  }
  return rows;
}

/**
 * The command that restores a subject. The display name and mail address of a deleted person were erased, so it must
 * give them. Those of a person who is being archived are kept.
 */
export function commandToRestore({
  kind,
  account,
  state,
}: {
  kind: 'person' | 'tool';
  account: string;
  state: string;
}): string {
  if (kind === 'tool') return `restore ${account}`;
  const erased = state === 'deleted' ? ' --displayName NAME --email ADDRESS' : '';
  return `submit person.restore --person ${account}${erased} --wait`;
}

function describeClosed({ at, by, reason, until }: NonNullable<LeavingPage['closed']>): string {
  return [
    `since ${timeOf(at)}`,
    ...(by === null ? [] : [` by ${by}`]),
    ...(reason === null || reason === '' ? [] : [` “${reason}”`]),
    ...(until === null ? [] : [`, until ${timeOf(until)}`]),
  ].join('');
}

/** `reinstated 2026-12-01 08:00:00Z, in 6 days` */
function describeNext({ sentence, at }: NextMove, now: Date): string {
  if (at !== null && isWithoutEnd(at)) return 'nothing until the hold is lifted';
  return at === null ? sentence : `${sentence}: ${timeOf(at)}, ${describeWait(at, now)}`;
}

function describeArchival(archival: ArchivalPage): string {
  const { beganAt, leftAt, keepUntil, expiredAt, returningAt, backAt, archives } = archival;
  // it came back before anything was archived
  const hasArchives = archives.some(({ made }) => made !== null);
  const rest = [
    ...(backAt === null ? [] : [`restored ${timeOf(backAt)}`]),
    ...(expiredAt !== null
      ? [`archives removed ${timeOf(expiredAt)}`]
      : keepUntil === null || !hasArchives
        ? []
        : [`archives kept until ${timeOf(keepUntil)}`]),
  ];
  return [
    `from ${timeOf(beganAt)}`,
    ...(leftAt === null ? [] : [`deleted ${timeOf(leftAt)}`]),
    ...(returningAt === null || backAt !== null
      ? []
      : [`being restored since ${timeOf(returningAt)}`]),
    ...rest,
  ].join(', ');
}

function describeArchive(
  { role, made, progress }: ArchivePage,
  { backAt, expiredAt, returningAt }: ArchivalPage,
): string {
  const doing = progress === null ? '' : `now ${describeProgress(progress)}`;
  if (made === null) {
    if (backAt !== null || returningAt !== null) return doing === '' ? '' : `${role}: ${doing}`;
    return `${role}: ${doing === '' ? 'not yet' : doing}`;
  }
  const { path, bytes, at, manifestSha256 } = made;
  return [
    `${role}: ${path}, ${formatBytes(bytes)}, read back ${timeOf(at)}, SHA-256 of manifest.json ${manifestSha256}`,
    ...(expiredAt === null ? [] : ['since removed']),
    ...(doing === '' ? [] : [doing]),
  ].join('; ');
}

/** `packing 1.2 GiB of 3.4 GiB` */
export function describeProgress({
  act,
  done,
  total,
}: Omit<NonNullable<ArchivePage['progress']>, 'at'>): string {
  return `${act} ${formatBytes(done)}${total === null ? '' : ` of ${formatBytes(total)}`}`;
}

/** `512 B`, `1.5 KiB`, `20 GiB`: units of 1024, with one digit after the point below ten. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let at = 0;
  while (value >= 1000 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  const text = at === 0 || value >= 10 ? String(Math.round(value)) : value.toFixed(1);
  return `${text} ${units[at]}`;
}

/** `in 6 days`, `in 3 h`, `in 12 min`; `due` if the time has come. */
export function describeWait(at: string, now: Date): string {
  const minutes = Math.round((Date.parse(at) - now.getTime()) / 60_000);
  if (minutes <= 0) return 'due';
  if (minutes < 120) return `in ${minutes} min`;
  if (minutes < 48 * 60) return `in ${Math.round(minutes / 60)} h`;
  return `in ${Math.round(minutes / 1440)} days`;
}
