/** The servers of the directory. The agent reads from one of them at a time. */
import { readFileSync } from 'node:fs';
import { openLoginDirectory, type LoginDirectory } from '../../backends/ldap/login-directory.ts';
import type { LoginHostConfig } from '../config.ts';

export interface DirectoryServers {
  count: number;
  uri(): string;
  /** The server in use. Throws as node:fs does if the password cannot be read. */
  open(): LoginDirectory;
  /** Goes on to the next server; if there is only one, opens new connections to it. */
  turnAway(): Promise<void>;
}

export function openDirectoryServers({
  realm,
  ldap,
}: Pick<LoginHostConfig, 'realm' | 'ldap'>): DirectoryServers {
  const { uris, base, caFile, hostAccount, passwordFile } = ldap;
  let server = 0;
  let directory: LoginDirectory | undefined;
  const uri = () => uris[server % uris.length] ?? '';
  return {
    count: uris.length,
    uri,
    open() {
      // read for each connection, because it may be replaced
      const password = () => readFileSync(passwordFile, 'utf8').replace(/\r?\n$/, '');
      password();
      const account = { hostAccount, password };
      return (directory ??= openLoginDirectory({ uri: uri(), base, realm, caFile, ...account }));
    },
    async turnAway() {
      const before = directory;
      directory = undefined;
      server += 1;
      await before?.close();
    },
  };
}
