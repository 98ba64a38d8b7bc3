/** Which settings a reload can change, and what must be restarted for the others. */
import { createHash } from 'node:crypto';
import { canonicalJson } from '../shared/canonical-json.ts';
import type { Config } from '../shared/config.ts';
import { ChamberlainError } from '../shared/errors.ts';

type Section = keyof Config;

/** A reload changes these; the API's limits are besides. */
const RELOADABLE: ReadonlySet<Section> = new Set<Section>([
  'portals',
  'keys',
  'reservedNames',
  'credentials',
  'leaving',
  'sweep',
  'retention',
]);
/** Only commands read these, each time anew. */
const OF_COMMANDS: ReadonlySet<Section> = new Set<Section>(['adminKey', 'backups', 'machines']);

/** The works that decide by what a reload can change. The roles do not. */
const DECIDING_WORKS = ['intake', 'relay', 'sweep', 'api'] as const;

/** Whether a process decides by what a reload can change. */
export function decides(works: readonly string[]): boolean {
  return DECIDING_WORKS.some((work) => works.includes(work));
}

/** The SHA-256 of all settings that a reload can change, in lower case hex. */
export function digestOfConfig(config: Config): string {
  const settings = [...RELOADABLE].map((section) => [section, config[section]]);
  const reloadable = { ...Object.fromEntries(settings), calls: config.api?.mostCallsPerMinute };
  return hashOf(canonicalJson(reloadable));
}

/** By setting, a hash of what a process with these works reads once, when it starts. */
export type FixedSettings = Readonly<Record<string, string>>;

export function fixedSettings(works: readonly string[], config: Config): FixedSettings {
  return Object.fromEntries(
    (Object.keys(config) as Section[])
      .filter((section) => !RELOADABLE.has(section) && !OF_COMMANDS.has(section))
      .filter((section) => section !== 'api' || works.includes('api'))
      .sort()
      .map((section) => [section, hashOf(textOf(config, section))]),
  );
}

/** The settings that differ, and that need a restart of the process. */
export function changedSettings(before: FixedSettings, after: FixedSettings): string[] {
  const all = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...all].filter((section) => before[section] !== after[section]).sort();
}

/** Throws CONFIG_INVALID if a change needs a restart: then nothing of it is applied, so that no mixture is in use. */
export function requireReloadable(works: readonly string[], before: Config, after: Config): void {
  const changed = changedSettings(fixedSettings(works, before), fixedSettings(works, after));
  if (changed.length === 0) return;
  throw new ChamberlainError('CONFIG_INVALID', 'reloading the configuration', {
    cause: new Error(
      `${changed.join(', ')} changed, which a process reads only when it starts. Nothing was changed`,
    ),
    action: `Restart the process (${works.join(', ')}), or undo the change and reload again.`,
  });
}

/** What a section is compared by: of the API, without its limits. */
function textOf(config: Config, section: Section): string {
  const value = config[section];
  if (section !== 'api' || value === undefined) return canonicalJson(value ?? null);
  return canonicalJson({ ...(value as object), mostCallsPerMinute: null });
}

const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex');
