/** What stands in the directory under a name or a number that a request could want, and is not ours. */
import type { Realm } from '../model/wanted.ts';
import { normalName } from '../model/names.ts';
import type { Finding } from '../plan/plan.ts';
import type { DirectoryEyes } from './directory-eyes.ts';

/** An account or group seen in the directory: a name in normal form, a number, or both. */
export interface Sighting {
  name: string | undefined;
  id: number | undefined;
}

/** Walks all accounts and groups, page by page; the store knows which of them are ours. */
export async function* lookForForeign(
  eyes: DirectoryEyes,
  realm: Realm,
): AsyncGenerator<Sighting[]> {
  const places = [
    { place: 'people', name: 'uid', number: 'uidNumber' },
    { place: 'toolAccounts', name: 'uid', number: 'uidNumber' },
    { place: 'toolGroups', name: 'cn', number: 'gidNumber' },
    { place: 'groups', name: 'cn', number: 'gidNumber' },
  ] as const;
  for (const { place, name, number } of places) {
    for await (const entries of eyes.list(place, [name, number])) {
      yield entries.flatMap(({ attributes }) => {
        const id = Number(attributes[number]?.[0]);
        const known = Number.isSafeInteger(id) && id > 0 && id < 2 ** 31 && id !== realm.realmGid;
        return (attributes[name] ?? []).map((each) => ({
          name: normalName(each),
          id: known ? id : undefined,
        }));
      });
    }
  }
}

/** What findings about one subject tell: its own name, or number, is another's there. */
export function foreignOf(findings: readonly Finding[]): Sighting[] {
  return findings
    .filter(({ code }) => code === 'NAME_FOREIGN' || code === 'ID_FOREIGN')
    .map(({ code, account, subject }) =>
      code === 'NAME_FOREIGN' ? { name: account, id: undefined } : { name: undefined, id: subject },
    );
}
