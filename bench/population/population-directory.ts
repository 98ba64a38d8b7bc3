/** Fills the directory: offline with slapadd, which checks the schema but does not wait for the disk. */
import { join } from 'node:path';
import { run, startServer, stopServer } from '../../dev/servers/daemon.ts';
import type { SealedPopulation } from './population.ts';
import {
  maintainersOf,
  personName,
  shapedPerson,
  shapedTool,
  toolName,
} from './population-names.ts';
import type { SlapdServer } from '../../dev/servers/slapd.ts';
import { readSealKey } from '../../src/shared/config.ts';
import { personDn, personEntry, type ShapedRealm, toolEntries } from '../tools/shapes.ts';

const MEMBERS_AT_ONCE = 2000;

export interface FillableRealm extends ShapedRealm {
  stack: { slapd: SlapdServer };
  /** `secrets`: the folder with the directory's passwords, and the key that seals */
  config: ShapedRealm['config'] & { secrets: string };
}

export async function fillDirectory(
  realm: FillableRealm,
  population: SealedPopulation,
): Promise<void> {
  const { people, tools, sealsUntil } = population;
  const { slapd } = realm.stack;
  const { base } = realm.config.ldap;
  const range = (count: number) => Array.from({ length: count }, (_, n) => n);
  const sealing = { key: readSealKey(realm.config), until: sealsUntil };
  const toolsOf = new Map<number, string[]>();
  for (const n of range(tools)) {
    for (const person of maintainersOf(n, population)) {
      toolsOf.set(person, [...(toolsOf.get(person) ?? []), toolName(n)]);
    }
  }
  const ldif = [
    ...range(people).map((n) => personEntry(shapedPerson(n), toolsOf.get(n) ?? [], realm, sealing)),
    ...range(tools).map((n) => toolEntries(shapedTool(n, population), realm, sealing)),
  ].join('');
  await stopServer(slapd);
  const folder = slapd.folder;
  const words = ['-q', '-F', join(folder, 'config'), '-n', '1'];
  await run('/usr/sbin/slapadd', words, { input: ldif });
  await startServer(slapd); // gives the files back to the server's user

  const group = `dn: cn=project-${realm.config.realm},ou=groups,${base}\nchangetype: modify\nadd: member\n`;
  const changes = range(Math.ceil(people / MEMBERS_AT_ONCE)).map(
    (chunk) =>
      group +
      range(Math.min(MEMBERS_AT_ONCE, people - chunk * MEMBERS_AT_ONCE))
        .map((n) => `member: ${personDn(personName(chunk * MEMBERS_AT_ONCE + n), realm)}\n`)
        .join(''),
  );
  const account = `cn=directory,ou=chamberlain,${base}`;
  const password = join(realm.config.secrets, 'ldap-directory');
  await run('/usr/bin/ldapmodify', ['-x', '-H', slapd.uri, '-D', account, '-y', password], {
    input: changes.join('\n'),
  });
}
