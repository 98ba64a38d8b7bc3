/** The deletions that archives show by their manifests: evidence if our database is older than they are. */
import * as z from 'zod';
import { ARCHIVING_ROLES } from '../roles/index.ts';

const SEEN_DELETION = z.object({
  role: z.enum(ARCHIVING_ROLES),
  uid: z.int(),
  account: z.string(),
  kind: z.enum(['person', 'tool']),
  archival: z.int(),
  /** when it was archived, RFC 3339: it was deleted as soon as both archives were made */
  deletedAt: z.string(),
  /** of all keys that the person ever had, `SHA256:…`; older archives name none */
  fingerprints: z.array(z.string()),
  /** the archive's path, as the role sees it */
  archive: z.string(),
  /** SHA-256 of its manifest, and the length of its files */
  manifest: z.string(),
  bytes: z.int(),
  /** whether its content was restored; undefined if it holds nothing that could be */
  back: z.enum(['no', 'partly', 'yes']).optional(),
});

/** An archive that is not recorded in our database. */
export type SeenDeletion = z.infer<typeof SEEN_DELETION>;

/** A list of them, as a role reports it; undefined if it is not such a list. */
export function parseDeletions(list: unknown): SeenDeletion[] | undefined {
  return z.array(SEEN_DELETION).safeParse(list).data;
}

/** The account and the archival that make up an archive's name; undefined if it is not such a name. */
export function parseArchiveName(
  name: string,
): { account: string; archival: number; kind: 'person' | 'tool' } | undefined {
  const [, account = '', archival] = /^([a-z][a-z0-9._-]*)\.([1-9][0-9]{0,8})$/.exec(name) ?? [];
  if (archival === undefined) return undefined;
  // a shell name has no dot, and the account of a tool begins with the realm and a dot
  const kind = account.includes('.') ? 'tool' : 'person';
  return { account, archival: Number(archival), kind };
}

/** What the archives of one account show. */
export interface Deletion {
  uid: number;
  account: string;
  kind: 'person' | 'tool';
  /** the last one: what became of it decides */
  archival: number;
  deletedAt: Date;
  fingerprints: string[];
  /** whether the content of the last archival was restored: none of it, all of it, or neither */
  back: 'no' | 'partly' | 'yes';
  /** of every archival, in order */
  archives: SeenDeletion[];
}

/** What archives show, by account. Of each archival before the last, everything was restored. */
export function readEvidence(seen: readonly SeenDeletion[]): Deletion[] {
  const accounts = Map.groupBy(seen, ({ uid, account }) => `${uid} ${account}`);
  return [...accounts.values()].map((unordered) => {
    const archives = unordered.toSorted((a, b) => a.archival - b.archival);
    const { uid, account, kind, archival } = archives.at(-1) as SeenDeletion;
    const last = archives.filter((each) => each.archival === archival);
    const backs = new Set(last.flatMap(({ back }) => back ?? []));
    const [back = 'no'] = backs;
    return {
      ...{ uid, account, kind, archival, archives },
      deletedAt: new Date(Math.max(...last.map(({ deletedAt }) => Date.parse(deletedAt)))),
      fingerprints: [...new Set(archives.flatMap(({ fingerprints }) => fingerprints))],
      back: backs.size > 1 ? 'partly' : back,
    };
  });
}
