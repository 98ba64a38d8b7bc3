/** Every target, in the order in which a role acts on them. Adding one costs its file and a line here. */
import { credentialsFile } from './credentials-file.ts';
import { databaseAccount } from './database-account.ts';
import { databaseArchive } from './database-archive.ts';
import { homeArchive } from './home-archive.ts';
import { homeDirectory } from './home-directory.ts';
import { realmMembership } from './realm-membership.ts';
import { seal } from './seal.ts';
import { sshKeys } from './ssh-keys.ts';
import { sudoRule } from './sudo-rule.ts';
import { unixAccount } from './unix-account.ts';
import { unixGroup } from './unix-group.ts';

export const TARGETS = {
  directory: [unixGroup, unixAccount, seal, sshKeys, sudoRule, realmMembership],
  homes: [homeArchive, homeDirectory, credentialsFile],
  databases: [databaseArchive, databaseAccount],
} as const;
