/** Machines that have the Debian package, the answers that `chamberlain setup` needs, and nothing of a realm. */
import { generateKeyPairSync } from 'node:crypto';
import type { Machine, Machines } from './systemd-machines.ts';

/** The images of machines, which images.ts makes. */
export const IMAGES = {
  bare: 'chamberlain-bare',
  realm: 'chamberlain-made',
  login: 'chamberlain-bare-login',
};

export const ANSWERS = `realm: tools
base: dc=example,dc=org
admin:
  name: alice
  sshKey: /root/alice.pub
  signingKey: /root/alice.pem
`;
export const CHECK = ['chamberlain', 'setup', '--check'];
/** What CHECK says if nothing differs. */
export const GOOD = 'everything is as it must be\n';
/** What `doctor` says if all is well. */
export const GREEN = /^0 fix, 0 unreadable, 0 not looked at, \d+ ok;/mu;
export const SETUP = ['chamberlain', 'setup', '--answers', '/root/answers.yaml'];
export const REALM_ADDRESS = 'realm.example.org';
/** Of a realm that other machines reach. */
export const LISTENS = `${ANSWERS}listen: ${REALM_ADDRESS}\n`;

/** As the first admin: `submit` and what follows it. */
export const AS_ALICE = '--portal admin.alice --portal-key /root/alice.key --requestedBy alice';

/** A machine with the answers and the keys of the first admin. */
export async function bootBare(
  machines: Machines,
  name: string,
  { answers = ANSWERS, ...where }: { answers?: string; address?: string; isAlone?: boolean } = {},
): Promise<Machine> {
  const machine = await machines.boot(name, { image: IMAGES.bare, ...where });
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  machine.run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', '/root/alice');
  machine.write('/root/alice.pem', publicKey.export({ type: 'spki', format: 'pem' }).toString());
  machine.write('/root/alice.key', privateKey.export({ type: 'pkcs8', format: 'pem' }).toString());
  machine.write('/root/answers.yaml', answers);
  return machine;
}

/** A machine that has a name, and reaches itself by it. */
export const bootNamed = (machines: Machines, name: string, answers = LISTENS): Promise<Machine> =>
  bootBare(machines, name, { answers, address: REALM_ADDRESS, isAlone: true });

/** A realm that other machines reach, with the keys of its first admin. */
export function bootRealm(machines: Machines): Promise<Machine> {
  return machines.boot('realm', { image: IMAGES.realm, address: REALM_ADDRESS });
}

const LOGIN_ADDRESS = 'login1.example.org';

export function bootLogin(machines: Machines): Promise<Machine> {
  return machines.boot('login1', { image: IMAGES.login, address: LOGIN_ADDRESS });
}

/** The two commands on the login host, the one on the realm's machine, and what a person carries between them. */
export function joinLogin({ realm, login }: { realm: Machine; login: Machine }): void {
  const request = login.run('chamberlain-login-host', 'setup', '--request');
  realm.write('/root/login1.json', request);
  const { fingerprint } = JSON.parse(request) as { fingerprint: string };
  const command = ['join', '/root/login1.json', '--fingerprint', fingerprint, '--json'];
  const said = realm.run('chamberlain', ...command, '--out', '/root/login1.join');
  const answer = JSON.parse(said) as { answerFingerprint: string };
  login.run(
    'sh',
    '-c',
    `echo '${realm.run('base64', '-w0', '/root/login1.join')}' | base64 -d >/root/login1.join`,
  );
  const code = ['--fingerprint', answer.answerFingerprint];
  login.run('chamberlain-login-host', 'setup', '--join', '/root/login1.join', ...code);
}

/** Runs a command on the login host as alice, by ssh from the realm's machine. */
export function asAliceOnLogin(realm: Machine, command: string) {
  const options = ['-o', 'BatchMode=yes', '-o', 'StrictHostKeyChecking=accept-new'];
  return realm.start('ssh', ...options, '-i', '/root/alice', `alice@${LOGIN_ADDRESS}`, command);
}
