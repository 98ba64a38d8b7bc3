/** A private machine on which the root helper runs as its program, and is asked from outside by its client. */
import { appendFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Ended } from '../../dev/servers/private-machine.ts';
import { openLoginHelper } from '../../src/edges/login-helper.ts';
import { eventually } from '../scenarios/eventually.ts';
import { CLONE, NODE, openHelperMachine } from './helper-machine.ts';

export const AGENT = 19_900;
export const SOCKET = '/run/chamberlain/login-helper.sock';
export const HELPER = [NODE, `${CLONE}/src/bin/login-helper.ts`];

export const IDS = {
  people: [{ first: 10_000, last: 10_999 }],
  tools: [{ first: 50_000, last: 50_999 }],
};
/** a number of theirs that a local account has */
const LOCAL = 10_500;

/** A line of the list of accounts. */
export const person = (name: string, uid: number, gecos = ''): string =>
  `${name}:x:${uid}:500:${gecos}:/home/${name}:/bin/bash`;

/**
 * Stands in the place of a program: writes down when it begins and ends, and is that program, as soon as
 * there is no /tmp/hold-<second argument>.
 */
const witness = (program: string) => `#!/bin/sh
echo "begin $*" >>/tmp/witness
while [ -e "/tmp/hold-$2" ]; do /usr/bin/sleep 0.02; done
${program}.real "$@"
code=$?
echo "end $*" >>/tmp/witness
exit $code
`;

export type HelperHost = Awaited<ReturnType<typeof openHelperHost>>;

export async function openHelperHost() {
  const machine = await openHelperMachine();
  const { inside } = machine;
  appendFileSync(inside('/etc/group'), `chamberlain-keys:x:${AGENT}:\n`);
  appendFileSync(inside('/etc/passwd'), `localadmin:x:${LOCAL}:${LOCAL}::/:/bin/sh\n`);
  await machine.must(['mkdir', '-p', '/etc/chamberlain']);
  writeFileSync(
    inside('/etc/chamberlain/login-host.yaml'),
    `realm: tools\nids: ${JSON.stringify(IDS)}\nldap: { uris: ['ldapi://%2Fnowhere'], base: dc=x }\n`,
  );
  for (const program of ['/usr/sbin/sss_cache', '/usr/bin/makedb']) {
    await machine.must(['mv', program, `${program}.real`]);
    writeFileSync(inside(program), witness(program), { mode: 0o755 });
  }

  /** Sends bytes as they are, half-closes, and returns the answer. */
  const ask = (request: string | Buffer): Promise<string> =>
    new Promise((done, fail) => {
      let answer = '';
      const socket = connect(inside(SOCKET));
      socket.setEncoding('utf8').on('data', (text) => (answer += String(text)));
      socket.once('error', fail).once('end', () => done(answer));
      socket.end(request);
    });

  const daemon = machine.daemon({
    name: 'login-helper',
    // with no more rights than the unit of systemd leaves it, and a umask that forbids nothing
    command: () => [
      ...['/bin/sh', '-c', 'umask 0; exec setpriv "$@"', 'confined'],
      ...['--no-new-privs', `--bounding-set=-all${rightsOfUnit()}`, ...HELPER],
    ],
    answers: async () => (await ask('')) !== '',
  });
  const witnessed = (): string[] =>
    readFileSync(inside('/tmp/witness'), 'utf8').trimEnd().split('\n');

  return {
    machine,
    daemon,
    helper: openLoginHelper(inside(SOCKET)),
    ask,
    /**
     * Ends the daemon, and starts the helper as a child of a shell: whose exit code can be had, and which can
     * be stopped without its nsenter, which stops with a child of its own.
     */
    async startBelowShell(): Promise<{ pid: string; ended: Promise<Ended> }> {
      await daemon.stop();
      const script = '"$@" & helper=$!; echo $helper >/tmp/helper; wait $helper';
      const ended = machine.run(['/bin/sh', '-c', script, 'sh', ...HELPER]);
      await eventually('it serves', async () => (await ask('')) !== '');
      return { pid: readFileSync(inside('/tmp/helper'), 'utf8').trim(), ended };
    },
    /** Starts the helper if it does not run, and forgets what was witnessed. */
    async begin(): Promise<void> {
      await daemon.start();
      writeFileSync(inside('/tmp/witness'), '');
    },
    witnessed,
    /** The arguments of each call of sss_cache and makedb. */
    begun: () => witnessed().flatMap((line) => /^begin (.*)/.exec(line)?.[1] ?? []),
    /** Holds a program back that has this second argument; returns how to let it go. */
    hold: (argument: string): (() => void) => {
      const file = inside(`/tmp/hold-${argument}`);
      writeFileSync(file, '');
      return () => rmSync(file);
    },
  };
}

/** What the unit leaves it, as setpriv(1) says it. */
export function rightsOfUnit(): string {
  const unit = join(
    import.meta.dirname,
    '../../deploy/login-host/templates/chamberlain-login-helper.service',
  );
  const [, rights = ''] = /^CapabilityBoundingSet=(.*)$/m.exec(readFileSync(unit, 'utf8')) ?? [];
  return rights.toLowerCase().replace(/(^| )cap_/g, ',+');
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}
