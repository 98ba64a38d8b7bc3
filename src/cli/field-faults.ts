/** What intake would refuse in a request for its fields alone, so that `submit` reports it before it sends anything. */
import {
  requireFuture,
  requireNewShellName,
  requireNewToolName,
} from '../requests/field-checks.ts';
import { type Code, codeOf } from '../shared/errors.ts';

/** As a refusal says it. */
export interface Fault {
  code: Code;
  sentence: string;
}

/**
 * Finds the faults of single fields that their schema does not find. Fields that do not fit the schema are ignored.
 *
 * @param knownBad fingerprints of keys that the realm refuses
 */
export async function findFieldFaults(
  request: Record<string, unknown>,
  { now, knownBad }: { now: Date; knownBad: readonly string[] },
): Promise<Fault[]> {
  const { kind, shellName, name, key, until, expiresAt } = request;
  const faults: Fault[] = [];
  const check = (value: unknown, require: (text: string) => void): void => {
    if (typeof value !== 'string' || value === '') return;
    try {
      require(value);
    } catch (error) {
      faults.push({ code: codeOf(error), sentence: (error as Error).message });
    }
  };
  const checkTime = (field: string, time: unknown, isOptional: boolean): void => {
    if (typeof time !== 'string' || Number.isNaN(Date.parse(time))) return;
    check(time, (text) => requireFuture(field, text, now, { isOptional }));
  };
  if (kind === 'person.create') check(shellName, requireNewShellName);
  if (kind === 'tool.create') check(name, requireNewToolName);
  if (kind === 'person.suspend') checkTime('until', until, true);
  if (kind === 'subject.hold') checkTime('until', until, false);
  if (kind === 'key.add') checkTime('expiresAt', expiresAt, true);
  if (typeof key === 'string' && key !== '') {
    // only here: it loads a library
    const { parseSshKey } = await import('../ssh-keys/ssh-key.ts');
    const parsed = parseSshKey(key, new Set(kind === 'key.remove' ? [] : knownBad));
    if (!parsed.ok) faults.push({ code: parsed.code, sentence: parsed.sentence });
  }
  return faults;
}
