/**
 * Handles what the agent reports, line by line. A bad line affects only itself, and nothing is believed
 * unverified.
 */
import { describeError } from '../../shared/errors.ts';
import { verifyAside } from '../../seals/seal.ts';
import type { Host } from './host.ts';
import { takeHeartbeat } from './registry/disappeared.ts';
import { knowsSeal, takeGone, takeReading, takeSeal, takeUnsealed } from './registry/entries.ts';
import { judgePayload, shown, type Verdict } from './registry/judge.ts';
import { parseReportLine, type ReportLine } from '../report-lines.ts';
import { digestOf } from './registry/subject.ts';

/** Some lines of a report whose seals are being verified. */
export interface Piece {
  lines: readonly ReportLine[];
  looks: Promise<(Look | undefined)[]>;
}

/** Starts to verify the seals in parallel, on other threads. */
export function beginPiece(host: Host, lines: readonly ReportLine[]): Piece {
  const looks = Promise.all(
    lines.map(async (line) =>
      line[0] === 'seal' ? await lookAtSeal(host, line[1], line[2]) : undefined,
    ),
  );
  looks.catch(() => {}); // `takePiece` handles it
  return { lines, looks };
}

/** Handles lines in their order. */
export async function takePiece(host: Host, piece: Piece): Promise<void> {
  const looks = await piece.looks;
  for (const [index, line] of piece.lines.entries()) {
    try {
      await takeLine(host, line, looks[index]);
    } catch (error) {
      // whatever went wrong, the next line may take a right away; the agent does not report this one again by itself
      host.needsFullReport = true;
      host.log.error(
        { error, line: [line[0], shown(line[1])] },
        'a line of a report was not handled',
      );
    }
  }
}

/** Reads one line of a report; undefined if it is not a valid line. */
export function readLine(bytes: Buffer): ReportLine | undefined {
  if (bytes.length < SHORTEST_LINE) return undefined;
  try {
    return parseReportLine(decoder.decode(bytes));
  } catch {
    return undefined;
  }
}

/** `["gone",""]` */
const SHORTEST_LINE = 11;
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

interface Look {
  digest: number;
  /** undefined if it is the known seal */
  verdict: Verdict | undefined;
}

async function lookAtSeal(host: Host, name: string, text: string): Promise<Look> {
  const digest = digestOf(text);
  const isKnown = knowsSeal(host.registry, name, digest);
  return { digest, verdict: isKnown ? undefined : await judge(host, name, text) };
}

async function judge(host: Host, name: string, text: string): Promise<Verdict> {
  const { keys, config, log } = host;
  try {
    const verified = await verifyAside(text, keys);
    return verified.ok ? judgePayload(name, verified.payload, config) : verified;
  } catch (error) {
    host.needsFullReport = true; // that says nothing about the seal
    log.error({ error, name: shown(name) }, 'a seal could not be judged');
    return { ok: false, why: `it cannot be judged: ${describeError(error)}` };
  }
}

async function takeLine(host: Host, line: ReportLine, look: Look | undefined): Promise<void> {
  const { registry, keys } = host;
  switch (line[0]) {
    case 'seal': {
      const [, name, text] = line;
      const { digest, verdict } = look ?? (await lookAtSeal(host, name, text));
      // an earlier line may have changed what is known
      if (knowsSeal(registry, name, digest)) takeSeal(registry, name, 'known', Date.now());
      else {
        const reported = { text, digest, verdict: verdict ?? (await judge(host, name, text)) };
        takeSeal(registry, name, reported, Date.now());
      }
      break;
    }
    case 'unsealed':
      takeUnsealed(registry, line[1], Date.now());
      break;
    case 'gone':
      takeGone(registry, line[1]);
      break;
    case 'heartbeat': {
      const verified = line[1] === '' ? undefined : await verifyAside(line[1], keys);
      takeHeartbeat(registry, verified, Date.now());
      break;
    }
    case 'all':
      takeReading(registry, line[1], line[2]);
      break;
    case 'trouble':
      host.server = shown(line[1]);
      host.trouble = shown(line[2], 300);
      registry.trouble = host.trouble;
      break;
  }
}
