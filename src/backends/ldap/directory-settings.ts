/** How the role directory reaches the directory, by the configuration. */
import { type Config, sealKeyReader, secretReader } from '../../shared/config.ts';

/** The settings of the writer: they include the key that it signs with. */
export function writerSettings(config: Config) {
  return { ...directorySettings(config, 'directory'), sealKey: sealKeyReader(config) };
}

/** How the directory is reached as one of the role's two accounts. */
export function directorySettings(config: Config, account: 'directory' | 'directory-reader') {
  return {
    uri: config.ldap.uri,
    base: config.ldap.base,
    realm: config.realm,
    caFile: config.ldap.caFile,
    password: secretReader(config, 'ldap', account),
  };
}
