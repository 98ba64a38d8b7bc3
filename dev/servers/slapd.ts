import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import {
  DIRECTORY_ACCOUNTS,
  renderDirectory,
  type Directory,
  type IdRange,
} from '../../deploy/ldap/render.ts';
import type { Certificate } from './certificate.ts';
import { ANSWER_TIMEOUT_MS, makeFolder, type Server } from './daemon.ts';
import { run } from './processes.ts';
import { keepOrChoosePort } from './redis.ts';
import { ensurePassword } from './secret.ts';

export interface SlapdServer extends Server {
  readonly base: string;
  /** By the unix socket: `ldapi://%2F…`. */
  readonly uri: string;
  /** By TCP on 127.0.0.1, for clients (sssd) that should meet a network. Known once started. */
  tcpUri(): string;
}

export interface SlapdOptions {
  readonly base: string;
  readonly realm: string;
  readonly ids: { people: readonly IdRange[]; tools: readonly IdRange[]; realmGid: number };
  /** Folder of the `ldap-<account>` passwords, created if missing; `ldap-admin` is among them. */
  readonly secrets: string;
}

/** A slapd as deploy/ldap describes it, with the empty tree of one realm. */
export function slapdServer(folder: string, options: SlapdOptions): SlapdServer {
  const data = join(folder, 'data');
  const config = join(folder, 'config');
  const seeded = join(folder, 'seeded');
  const portFile = join(folder, 'port');
  const socket = join(folder, 'run/ldapi');
  const uri = `ldapi://${encodeURIComponent(socket)}`;
  const tcpUri = (): string => `ldap://127.0.0.1:${readFileSync(portFile, 'utf8')}`;
  return {
    name: 'slapd',
    folder,
    user: 'openldap',
    stopSignal: 'SIGTERM',
    base: options.base,
    uri,
    tcpUri,
    async prepare() {
      const texts = renderDirectory(describe(options, folder));
      const isNew = !existsSync(seeded);
      if (isNew) rmSync(data, { recursive: true, force: true });
      makeFolder(data, 'openldap', 0o700);
      // cn=config is written anew at each start, so that it always matches deploy/ldap
      rmSync(config, { recursive: true, force: true });
      makeFolder(config, 'openldap', 0o700);
      await slapTool('slapadd', config, '0', texts['config.ldif']);
      await slapTool('slapmodify', config, '0', texts['access.ldif']);
      if (isNew) {
        await slapTool('slapadd', config, '1', `${texts['tree.ldif']}\n${texts['accounts.ldif']}`);
        writeFileSync(seeded, '');
      }
      await run('/usr/bin/chown', ['-R', 'openldap:openldap', config, data]);
      rmSync(socket, { force: true });
      writeFileSync(portFile, String(await keepOrChoosePort(portFile)));
    },
    // -d keeps it in the foreground; with 0 it logs only grave errors
    command: () => ['/usr/sbin/slapd', '-d', '0', '-F', config, '-h', `${uri} ${tcpUri()}`],
    answers: () => accepts(socket),
  };
}

/** The same server, which also listens at these URIs (`ldaps://HOST:PORT`). */
export function serveLdaps(
  server: SlapdServer,
  uris: readonly string[],
  { ca, certificate, key }: Certificate,
): SlapdServer {
  const files = { CACertificate: ca, Certificate: certificate, CertificateKey: key };
  const lines = Object.entries(files).map(
    ([name, path]) => `add: olcTLS${name}File\nolcTLS${name}File: ${path}\n-\n`,
  );
  return {
    ...server,
    async prepare() {
      await server.prepare();
      const config = join(server.folder, 'config');
      await slapTool(
        'slapmodify',
        config,
        '0',
        `dn: cn=config\nchangetype: modify\n${lines.join('')}`,
      );
      await run('/usr/bin/chown', ['-R', 'openldap:openldap', config]);
    },
    command: () => [
      ...server.command().slice(0, -1),
      `${server.command().at(-1)} ${uris.join(' ')}`,
    ],
  };
}

function describe(options: SlapdOptions, folder: string): Directory {
  const password = (account: string): string => ensurePassword(options.secrets, `ldap-${account}`);
  const accounts = DIRECTORY_ACCOUNTS.map((account) => [account, password(account)] as const);
  return {
    base: options.base,
    realm: options.realm,
    peopleIds: options.ids.people,
    toolIds: options.ids.tools,
    realmGid: options.ids.realmGid,
    databaseFolder: join(folder, 'data'),
    pidFile: join(folder, 'run/slapd.pid'),
    passwords: {
      ...Object.fromEntries(accounts),
      admin: password('admin'),
    } as Directory['passwords'],
  };
}

/** Runs slapadd or slapmodify as root, which may read the schemas wherever the project is. */
async function slapTool(
  tool: 'slapadd' | 'slapmodify',
  config: string,
  database: string,
  ldif: string,
): Promise<void> {
  await run(`/usr/sbin/${tool}`, ['-F', config, '-n', database], { input: ldif });
}

function accepts(socket: string): Promise<boolean> {
  return new Promise((done) => {
    // an anonymous bind (RFC 4511, 4.2): message 1, version 3, empty name, empty password
    const bind = Buffer.from('300c020101600702010304008000', 'hex');
    const client = connect({ path: socket, timeout: ANSWER_TIMEOUT_MS });
    const end = (answer: boolean): void => {
      client.destroy();
      done(answer);
    };
    client.once('connect', () => client.write(bind));
    client.once('data', () => end(true));
    client.once('timeout', () => end(false));
    client.once('close', () => end(false));
    client.once('error', () => end(false));
  });
}
