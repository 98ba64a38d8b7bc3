/** The file `state.json`: what the helper must know after a restart, besides the journal. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import * as z from 'zod/mini';
import type { LoginHostConfig } from '../config.ts';
import type { Kept } from './registry/registry.ts';
import { KNOWN_BAD_KEYS } from '../../ssh-keys/known-bad-keys.ts';
import { readIfThere, replaceFile } from '../../shared/durable-file.ts';

const schema = z.strictObject({
  at: z.number().check(z.minimum(0)),
  floors: z.array(z.tuple([z.int(), z.int()])),
  accepted: z.strictObject({
    people: z.int().check(z.minimum(0)),
    tools: z.int().check(z.minimum(0)),
  }),
  disappeared: z.array(z.tuple([z.int(), z.number()])),
  confirmedAt: z.prefault(z.number().check(z.minimum(0)), 0),
  doubted: z.prefault(z.array(z.tuple([z.int(), z.number()])), []),
  rules: z.string(),
  isWhole: z.boolean(),
});

export interface KeptState extends Kept {
  /** the rules by which the kept seals were judged */
  rules: string;
  /** everything was reported at least once: what is not known does not exist */
  isWhole: boolean;
}

const FILE = 'state.json';

/** Undefined if there is no file. Throws if it cannot be read; then the last heartbeat is not known. */
export function readKeptState(folder: string): KeptState | undefined {
  const text = readIfThere(join(folder, FILE));
  return text === undefined ? undefined : schema.parse(JSON.parse(text));
}

/** Throws as node:fs does. */
export function writeKeptState(folder: string, state: KeptState, flush: boolean): void {
  replaceFile(join(folder, FILE), JSON.stringify(state), { mode: 0o600 }, flush);
}

/** A digest of the rules: the same for the same rules. Another version of the program may know other bad keys. */
export function rulesOf({ realm, ids, homes, knownBadKeys }: LoginHostConfig): string {
  const rules = JSON.stringify([realm, ids, homes, knownBadKeys, [...KNOWN_BAD_KEYS.keys()]]);
  return createHash('sha256').update(rules).digest('hex');
}
