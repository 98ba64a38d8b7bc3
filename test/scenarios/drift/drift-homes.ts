/** Drifts of the file server: homes and the folders in them, credentials files. */
import {
  chmodSync,
  chownSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import type { DriftCase, Subject } from './drift-case.ts';

const file = ({ home }: Subject) => join(home, 'replica.my.cnf');
const web = ({ home }: Subject) => join(home, 'public_html');
const away = (path: string) => join(dirname(dirname(path)), `away-${path.replaceAll('/', '-')}`);
/** Does what the sentence asks for: moves away whatever has the place of something of ours. */
const moveAway = (path: string) => renameSync(path, away(path));

const HOMES: readonly DriftCase[] = [
  {
    what: 'the home of a tool removed',
    of: 'tool',
    damage: ({ home }) => rmSync(home, { recursive: true }),
    shows: ['create home-directory', 'create credentials-file'],
  },
  {
    what: 'the home of a person removed',
    of: 'person',
    damage: ({ home }) => rmSync(home, { recursive: true }),
    shows: ['create home-directory', 'create credentials-file'],
  },
  {
    what: 'the home renamed',
    of: 'tool',
    damage: ({ home }) => renameSync(home, `${home}.old`),
    shows: ['create home-directory', 'create credentials-file'],
  },
  {
    what: 'the home owned by another account',
    of: 'tool',
    covers: 'home-directory tool uid',
    damage: ({ home }) => chownSync(home, 4242, 4242),
    shows: ['PATH_FOREIGN home-directory'],
    decide: ({ home, uid }) => chownSync(home, uid, uid),
  },
  {
    what: 'the home of a person owned by root',
    of: 'person',
    covers: 'home-directory person uid',
    damage: ({ home }) => chownSync(home, 0, 0),
    shows: ['PATH_FOREIGN home-directory'],
    decide: ({ home }) => moveAway(home),
  },
  {
    what: 'the home of a tool with the mode 0777',
    of: 'tool',
    covers: 'home-directory tool mode',
    damage: ({ home }) => chmodSync(home, 0o777),
    shows: ['revoke home-directory'],
  },
  {
    what: 'the home of a tool without the setgid bit',
    of: 'tool',
    damage: ({ home }) => chmodSync(home, 0o775),
    shows: ['change home-directory'],
  },
  {
    what: 'the home of a person open to others',
    of: 'person',
    covers: 'home-directory person mode',
    damage: ({ home }) => chmodSync(home, 0o755),
    shows: ['revoke home-directory'],
  },
  {
    what: 'the home of a person closed to its owner',
    of: 'person',
    damage: ({ home }) => chmodSync(home, 0o000),
    shows: ['change home-directory'],
  },
  {
    what: 'the home of a tool with the group of another account',
    of: 'tool',
    covers: 'home-directory tool gid',
    damage({ home, uid }) {
      chownSync(home, uid, 4242);
      chmodSync(home, 0o2775);
    },
    shows: ['change home-directory'],
  },
  {
    what: 'the home of a person with the group of another account',
    of: 'person',
    covers: 'home-directory person gid',
    damage({ home, uid }) {
      chownSync(home, uid, 4242);
    },
    shows: ['change home-directory'],
  },
  {
    what: 'a symbolic link in the place of the home',
    of: 'tool',
    damage({ home }) {
      moveAway(home);
      symlinkSync('/etc', home);
    },
    shows: ['PATH_FOREIGN home-directory'],
    decide: ({ home }) => rmSync(home),
  },
  {
    what: 'a file in the place of the home',
    of: 'tool',
    damage({ home }) {
      moveAway(home);
      writeFileSync(home, 'here was a home');
    },
    shows: ['PATH_FOREIGN home-directory'],
    decide: ({ home }) => rmSync(home),
  },
  {
    what: 'the default ACL of the home lost',
    of: 'tool',
    damage: ({ home }, hand) => hand.run('setfacl', '-k', home),
    shows: ['change home-directory'],
  },
  {
    what: 'the default ACL of the home without group write',
    of: 'tool',
    damage: ({ home }, hand) => hand.run('setfacl', '-d', '-m', 'g::r-x', home),
    shows: ['change home-directory'],
  },
];

const FOLDERS: readonly DriftCase[] = [
  {
    what: 'the folders of a home removed',
    of: 'tool',
    covers: 'home-directory tool folders',
    damage({ home }) {
      rmdirSync(join(home, 'public_html'));
      rmdirSync(join(home, 'logs'));
    },
    shows: ['create home-directory', 'create home-directory'],
  },
  {
    what: 'a symbolic link in the place of public_html',
    of: 'tool',
    damage(subject) {
      rmdirSync(web(subject));
      symlinkSync('/etc', web(subject));
    },
    shows: ['PATH_FOREIGN home-directory'],
    decide: (subject) => rmSync(web(subject)),
  },
  {
    what: 'a file in the place of public_html, and too open a mode on logs',
    of: 'tool',
    damage(subject) {
      rmdirSync(web(subject));
      writeFileSync(web(subject), 'pages');
      chmodSync(join(subject.home, 'logs'), 0o777);
    },
    shows: ['revoke home-directory', 'PATH_FOREIGN home-directory'],
    decide: (subject) => rmSync(web(subject)),
  },
  {
    what: 'public_html owned by another account',
    of: 'tool',
    damage: (subject) => chownSync(web(subject), 4242, 4242),
    shows: ['PATH_FOREIGN home-directory'],
    decide: (subject) => moveAway(web(subject)),
  },
  {
    what: 'public_html with another group, without the setgid bit and without its ACL',
    of: 'tool',
    damage(subject, hand) {
      chownSync(web(subject), subject.uid, 4242);
      chmodSync(web(subject), 0o775);
      hand.run('setfacl', '-k', web(subject));
    },
    shows: ['change home-directory', 'change home-directory', 'change home-directory'],
  },
];

/** New credentials: the verifier on the servers follows automatically. */
const NEW: Pick<DriftCase, 'shows'> = { shows: ['change credentials-file'] };

const replaceBy = (make: (path: string) => unknown) => (subject: Subject) => {
  rmSync(file(subject));
  make(file(subject));
};
const rewrite = (subject: Subject, text: string) => {
  truncateSync(file(subject));
  writeFileSync(file(subject), text);
};

const CREDENTIALS: readonly DriftCase[] = [
  { what: 'the file emptied', of: 'tool', damage: (one) => truncateSync(file(one)), ...NEW },
  {
    what: 'the file deleted',
    of: 'tool',
    damage: (one) => rmSync(file(one)),
    shows: ['create credentials-file'],
  },
  {
    what: 'the file of a person deleted',
    of: 'person',
    damage: (one) => rmSync(file(one)),
    shows: ['create credentials-file'],
  },
  {
    what: 'the wrong password in the file',
    of: 'tool',
    covers: 'credentials-file tool credentials',
    damage: (one) => rewrite(one, `[client]\nuser = ${one.user}\npassword = chosenbyhand\n`),
    ...NEW,
  },
  {
    what: 'the wrong password in the file of a person',
    of: 'person',
    covers: 'credentials-file person credentials',
    damage: (one) => rewrite(one, `[client]\nuser = ${one.user}\npassword = chosenbyhand\n`),
    ...NEW,
  },
  {
    what: 'the contents of the file of another tool',
    of: 'tool',
    covers: 'credentials-file tool user',
    damage: (one, { neighbour }) => copyFileSync(file(neighbour), file(one)),
    ...NEW,
  },
  {
    what: 'the contents of the file of a tool in that of a person',
    of: 'person',
    covers: 'credentials-file person user',
    damage: (one, { neighbour }) => copyFileSync(file(neighbour), file(one)),
    ...NEW,
  },
  {
    what: 'the file of another tool, as a hard link',
    of: 'tool',
    damage(one, { neighbour }) {
      rmSync(file(one));
      linkSync(file(neighbour), file(one));
    },
    ...NEW,
  },
  {
    what: 'the file owned by root and its group',
    of: 'tool',
    covers: 'credentials-file tool uid',
    damage: (one) => chownSync(file(one), 0, 0),
    // its group could read it: root's group contains nobody who should
    shows: ['revoke credentials-file'],
  },
  {
    what: 'the file owned by root, with the group of the account',
    of: 'tool',
    damage: (one) => chownSync(file(one), 0, one.uid),
    shows: ['change credentials-file'],
  },
  {
    what: 'the file of a person owned by another account',
    of: 'person',
    covers: 'credentials-file person uid',
    damage: (one) => chownSync(file(one), 4242, one.uid),
    ...NEW,
  },
  {
    what: 'readable by everybody',
    of: 'tool',
    damage: (one) => chmodSync(file(one), 0o644),
    shows: ['revoke credentials-file'],
  },
  {
    what: 'readable only by its owner',
    of: 'tool',
    damage: (one) => chmodSync(file(one), 0o400),
    shows: ['change credentials-file'],
  },
  {
    what: 'writable by its owner',
    of: 'tool',
    damage: (one) => chmodSync(file(one), 0o640),
    shows: ['change credentials-file'],
  },
  {
    what: 'with another hard link, as backups make them',
    of: 'tool',
    damage: (one) => linkSync(file(one), `${file(one)}.bak`),
    shows: [],
  },
  {
    what: 'a symbolic link in the place of the file',
    of: 'tool',
    damage: replaceBy((path) => symlinkSync('/etc/passwd', path)),
    ...NEW,
  },
  {
    what: 'a FIFO in the place of the file',
    of: 'tool',
    damage: (one, hand) => replaceBy((path) => hand.run('mkfifo', path))(one),
    ...NEW,
  },
  {
    what: 'a file of several megabytes',
    of: 'tool',
    damage: (one) => truncateSync(file(one), 64 << 20),
    ...NEW,
  },
  {
    what: 'bytes that are not credentials',
    of: 'tool',
    damage: (one) => rewrite(one, readFileSync('/bin/true').subarray(0, 2000).toString('latin1')),
    ...NEW,
  },
  {
    what: 'a directory in the place of the file',
    of: 'tool',
    damage: replaceBy((path) => mkdirSync(path)),
    shows: ['PATH_FOREIGN credentials-file'],
    decide: (one) => moveAway(file(one)),
  },
];

export const HOME_CASES: readonly DriftCase[] = [...HOMES, ...FOLDERS, ...CREDENTIALS];
