/**
 * A copy of the program with one role more, `notes`: one file for each account, in a folder of their own. It is archived
 * when its account leaves. All that is done to the copy is the role's folder and its line in the registry.
 */
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');
const COPIED = [
  ...['src', 'workers', 'migrations', 'deploy', 'dev'],
  ...['package.json', 'package-lock.json', 'tsconfig.json'],
];

const FILES: Record<string, string> = {
  'role.ts': `/** The role \`notes\`: a note about each account. */
import { archiveColumns } from '../account-columns.ts';
import type { RoleDescriptor } from '../descriptor.ts';
import { note } from './note.ts';
import { NOTES_VERBS } from './verbs.ts';

export const notes: RoleDescriptor<'notes'> = {
  name: 'notes',
  targets: [note],
  verbs: NOTES_VERBS,
  wanted: archiveColumns('notes'),
  touchedBy: { account: {}, access: {}, archives: {} },
  archives: 'note',
  places: () => [],
  stops: () => 'no note is written',
  loadParts: async () => (await import('./worker.ts')).NOTES,
  loadChecks: () => import('./checks.ts'),
};
`,
  'verbs.ts': `/** The verbs of the role \`notes\`. */
import type { VerbsOf } from '../descriptor.ts';

export type NotesAction =
  | { verb: 'note.write'; account: string; text: string }
  | { verb: 'note.archive'; account: string; uid: number; archival: number }
  | { verb: 'note.remove'; account: string };

declare module '../../reconcile/action.ts' {
  interface RoleActions {
    notes: NotesAction;
  }
}

const part = () => 'the note';

export const NOTES_VERBS: VerbsOf<NotesAction> = {
  'note.write': { part },
  'note.archive': { part },
  'note.remove': { part },
};
`,
  'note.ts': `/** A file for each account that says its number, and whether it may be used. Pure. */
import type { Effect, Action } from '../../reconcile/action.ts';
import type { Target } from '../../targets/target.ts';

export interface NotesReader {
  read(account: string): string | undefined;
}

/** What should be there: a text, an archive of it, or nothing. */
type Want = { text: string } | { archived: number; isRecorded: boolean } | { text: undefined };

export const note: Target<NotesReader, Want, string | undefined> = {
  name: 'note',
  of: ['person', 'tool'],
  needs: [],
  want({ uid, state, archive }) {
    if (state === 'deleted') return { text: undefined };
    if (state === 'archived' && archive !== undefined && !archive.returning) {
      return { archived: archive.archival, isRecorded: archive.manifest !== undefined };
    }
    return { text: \`\${uid} \${state === 'active' ? 'open' : 'closed'}\` };
  },
  describe: (want) => ('archived' in want ? 'note, archived' : \`note \${want.text ?? 'none'}\`),
  observe: async (reader, wanted) => wanted.map(({ account }) => reader.read(account)),
  plan(want, have, { uid, account }) {
    const step = (effect: Effect, change: string, because: string, action: Action) => ({
      steps: [{ object: \`note of \${account}\`, effect, change, because, action }],
      findings: [],
    });
    if ('archived' in want) {
      if (want.isRecorded) return { steps: [], findings: [] };
      const { archived: archival } = want;
      return step('create', 'archived', 'the account leaves', { verb: 'note.archive', account, uid, archival });
    }
    const { text } = want;
    if (have === text) return { steps: [], findings: [] };
    if (text === undefined) {
      return step('destroy', 'present → absent', 'it is archived', { verb: 'note.remove', account });
    }
    const effect = have === undefined ? 'create' : text.endsWith('closed') ? 'revoke' : 'change';
    return step(effect, \`\${have ?? 'absent'} → \${text}\`, 'it differs', { verb: 'note.write', account, text });
  },
};
`,
  'worker.ts': `/** Reads and writes the notes. */
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { keepArchives } from '../../archives/record-archives.ts';
import type { RoleParts } from '../../reconcile/role.ts';
import type { Config } from '../../shared/config.ts';
import { note, type NotesReader } from './note.ts';

const folderOf = ({ files }: Config) => join(files.root, 'notes');

export const NOTES: RoleParts<NotesReader> = {
  role: 'notes',
  targets: [note],
  concurrency: 4,
  openReader: (config) => ({
    read(account) {
      try {
        return readFileSync(join(folderOf(config), account), 'utf8');
      } catch {
        return undefined;
      }
    },
    close: async () => {},
  }),
  openWriter(config, store) {
    const folder = folderOf(config);
    const keeping = keepArchives('notes', store);
    mkdirSync(join(folder, 'archives'), { recursive: true });
    return {
      async do(action) {
        if (action.verb === 'note.write') writeFileSync(join(folder, action.account), action.text);
        if (action.verb === 'note.remove') rmSync(join(folder, action.account));
        if (action.verb !== 'note.archive') return;
        const { account, uid: subject, archival } = action;
        const path = join(folder, 'archives', \`\${account}.\${archival}\`);
        copyFileSync(join(folder, account), path);
        const bytes = readFileSync(path);
        const manifestSha256 = createHash('sha256').update(bytes).digest('hex');
        await keeping.record({ subject, archival, manifestSha256, path, bytes: bytes.length });
      },
      close: async () => {},
    };
  },
  readEverything: async (reader) => ({ reader, sightings: [], numbers: new Set() }),
  openWatch: () => () => [],
};
`,
  'checks.ts': `/** What \`chamberlain doctor\` looks at for the role \`notes\`. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expectThat } from '../../doctor/line.ts';
import type { RoleChecks } from '../../doctor/role-checks.ts';

export const checksOf: RoleChecks['checksOf'] = ({ config, at }) => [
  at('this host', 'the notes', 'Look at the folder.', () => {
    const folder = join(config.files.root, 'notes');
    return [expectThat(existsSync(folder), \`\${folder} is there, for notes\`, \`there is no \${folder}\`, 'Make it.')];
  }),
];
`,
};

/** Makes the copy in a folder that is there. */
export function copyWithToyRole(to: string): void {
  for (const name of COPIED) cpSync(join(ROOT, name), join(to, name), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(to, 'node_modules'));
  mkdirSync(join(to, 'src/roles/notes'));
  for (const [name, text] of Object.entries(FILES)) {
    writeFileSync(join(to, 'src/roles/notes', name), text);
  }
  const registry = join(to, 'src/roles/index.ts');
  const before = readFileSync(registry, 'utf8');
  const after = before
    .replace(
      "import { homes } from './homes/role.ts';\n",
      "$&import { notes } from './notes/role.ts';\n",
    )
    .replace('  databases,\n] as const;', '  databases,\n  notes,\n] as const;');
  const added = after.split('\n').length - before.split('\n').length;
  if (added !== 2)
    throw new Error(`the registry has ${added} lines more, not an import and a line`);
  writeFileSync(registry, after);
}
