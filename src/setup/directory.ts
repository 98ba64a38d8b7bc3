/** slapd: an instance of its own. Its unit is in deploy/servers. */
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { renderForConfig } from '../../deploy/ldap/render.ts';
import { folder } from '../../deploy/login-host/pieces.ts';
import { readSecret } from '../shared/config.ts';
import type { Answers } from './answers.ts';
import { shownPieces } from './certificates.ts';
import { filesOf, listeningPiece, SLAPD_LISTENS } from './listening.ts';
import { LISTENERS, readConfig, SLAPD, TLS } from './places.ts';
import { run, service, together } from './programs.ts';
import type { Piece } from './setup.ts';

export function directoryPieces(answers: Answers, needs: readonly Piece[]): Piece[] {
  const { data, unit } = SLAPD;
  const owned = { owner: 'openldap', group: 'openldap' } as const;
  const place = together(
    `the folder ${data}`,
    'makes it',
    [folder(data, { ...owned, mode: 0o700 })],
    needs,
  );
  const config = join(data, 'config');
  const loaded: Piece = {
    name: 'the directory',
    does: `loads rules, accounts and the empty tree of deploy/ldap into ${data}`,
    needs: [place],
    check: () => (existsSync(config) ? undefined : 'is missing'),
    make: loadDirectory,
  };
  const listening = listeningPiece(SLAPD_LISTENS, answers, [loaded]);
  const running = service(unit, [listening], filesOf(SLAPD_LISTENS));
  return [place, loaded, listening, running, ...directoryShows(answers, [running])];
}

export const directoryShows = (answers: Answers, needs: readonly Piece[]): Piece[] =>
  shownPieces(LISTENERS.slapd, answers, loadCertificate, needs);

/** slapd reads the files when these attributes are written, even if they had the same values. */
async function loadCertificate(): Promise<void> {
  const { file } = LISTENERS.slapd;
  const files = { CACertificate: TLS.ca, Certificate: file, CertificateKey: file };
  const lines = Object.entries(files).map(
    ([name, path]) => `replace: olcTLS${name}File\nolcTLS${name}File: ${path}\n-\n`,
  );
  const change = `dn: cn=config\nchangetype: modify\n${lines.join('')}`;
  await run('ldapmodify', ['-Q', '-Y', 'EXTERNAL', '-H', SLAPD.uri], change);
}

/** The configuration gets its name last: what is interrupted begins again. */
async function loadDirectory(): Promise<void> {
  const { data, run: runFolder } = SLAPD;
  const [config, tree] = [join(data, 'config'), join(data, 'data')];
  const [newConfig, newTree] = [`${config}.new`, `${tree}.new`];
  const realm = readConfig();
  const render = (databaseFolder: string) =>
    renderForConfig(realm, {
      ...{ databaseFolder, pidFile: `${runFolder}/slapd.pid` },
      adminPassword: readSecret(realm, 'ldap', 'admin'),
    });
  const loadRules = async (databaseFolder: string) => {
    await run('rm', ['-rf', newConfig]);
    mkdirSync(newConfig, 0o700);
    const texts = render(databaseFolder);
    await run('slapadd', ['-F', newConfig, '-n', '0'], texts['config.ldif']);
    await run('slapmodify', ['-F', newConfig, '-n', '0'], texts['access.ldif']);
    return `${texts['tree.ldif']}\n${texts['accounts.ldif']}`;
  };
  if (!existsSync(tree)) {
    await run('rm', ['-rf', newTree]);
    mkdirSync(newTree, 0o700);
    await run('slapadd', ['-F', newConfig, '-n', '1'], await loadRules(newTree));
    await run('chown', ['-R', 'openldap:openldap', newTree]);
    renameSync(newTree, tree);
  }
  await loadRules(tree);
  await run('chown', ['-R', 'openldap:openldap', newConfig]);
  renameSync(newConfig, config);
}
