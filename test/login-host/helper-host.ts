/** A private machine on which the login helper runs as its program, in the places that a login host has. */
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { Ended } from '../../dev/servers/private-machine.ts';
import type { Marker } from '../../src/seals/heartbeat.ts';
import type { PersonSeal, ToolSeal } from '../../src/seals/seal.ts';
import { PLACES } from '../../src/login-host/places.ts';
import type { ReportAnswer, ReportLine } from '../../src/login-host/report-lines.ts';
import { eventually } from '../scenarios/eventually.ts';
import { CLONE, NODE, openHelperMachine } from './helper-machine.ts';
import { heartbeat, newSigner, sign } from './seals.ts';

export const AGENT = 19_900;
const LOOKUP = 19_901;
export const SOCKET = PLACES.socket;
export const HELPER = [NODE, `${CLONE}/src/login-host/programs/login-helper.ts`];

const IDS = {
  people: [{ first: 10_000, last: 10_999 }],
  tools: [{ first: 50_000, last: 50_999 }],
};

export type HelperHost = Awaited<ReturnType<typeof openHelperHost>>;

export async function openHelperHost() {
  const machine = await openHelperMachine();
  const { inside } = machine;
  const signer = newSigner();
  const groups = `chamberlain-keys:x:${AGENT}:\nchamberlain-lookup:x:${LOOKUP}:\n`;
  appendFileSync(inside('/etc/group'), groups);
  const folders = ['/etc/chamberlain', '/etc/sudoers.d', PLACES.extrausers, '/var/lib/chamberlain'];
  await machine.must(['mkdir', '-p', ...folders]);
  const config = {
    ...{ realm: 'tools', realmGid: 1500, ids: IDS, sealKeys: [signer.pem] },
    ldap: { uris: ['ldapi://%2Fnowhere'], base: 'dc=x' },
  };
  writeFileSync(inside('/etc/chamberlain/login-host.yaml'), stringify(config));

  /** Sends bytes as they are, half-closes, and returns the answer. */
  const ask = (report: string | Buffer): Promise<string> =>
    new Promise((done, fail) => {
      let answer = '';
      const socket = connect(inside(SOCKET));
      socket.setEncoding('utf8').on('data', (text) => (answer += String(text)));
      socket.once('error', fail).once('end', () => done(answer));
      socket.end(report);
    });
  const tell = async (...lines: ReportLine[]): Promise<ReportAnswer> =>
    JSON.parse(
      await ask(lines.map((line) => `${JSON.stringify(line)}\n`).join('')),
    ) as ReportAnswer;
  const seal = (...seals: (PersonSeal | ToolSeal)[]): ReportLine[] =>
    seals.map((each) => ['seal', each.name, sign(each, signer)] as const);

  let lastAt = 0;
  const beat = (more: Partial<Marker> = {}): ReportLine => {
    lastAt = Math.max(lastAt + 1, Date.now());
    const at = new Date(lastAt).toISOString();
    return ['heartbeat', heartbeat(Date.now(), signer, { at, ...more })];
  };

  const daemon = machine.daemon({
    name: 'login-helper',
    // with only the rights that the systemd unit leaves it, and a umask that forbids nothing
    command: () => [
      ...['/bin/sh', '-c', 'umask 0; exec setpriv "$@"', 'confined'],
      ...['--no-new-privs', `--bounding-set=-all${rightsOfUnit()}`, ...HELPER],
    ],
    answers: async () => (await ask('')) !== '',
  });

  return {
    ...{ machine, daemon, ask, tell, seal, beat },
    /** Everything, with a heartbeat that counts it. */
    all: (...seals: (PersonSeal | ToolSeal)[]) =>
      tell(
        beat({
          people: seals.filter(({ kind }) => kind === 'person').length,
          tools: seals.filter(({ kind }) => kind === 'tool').length,
        }),
        ['all', 'token', 'begin'],
        ...seal(...seals),
        ['all', 'token', 'end'],
      ),
    read: (path: string): string | undefined =>
      existsSync(inside(path)) ? readFileSync(inside(path), 'utf8') : undefined,
    /**
     * Stops the daemon, and starts the helper as a child of a shell: this gives access to its exit code, and it
     * can be stopped without its nsenter, which stops together with a child of its own.
     */
    async startBelowShell(): Promise<{ pid: string; ended: Promise<Ended> }> {
      await daemon.stop();
      const script = '"$@" & helper=$!; echo $helper >/tmp/helper; wait $helper';
      const ended = machine.run(['/bin/sh', '-c', script, 'sh', ...HELPER]);
      await eventually('it serves', async () => (await ask('')) !== '');
      return { pid: readFileSync(inside('/tmp/helper'), 'utf8').trim(), ended };
    },
  };
}

/** The rights that the unit leaves it, in the form of setpriv(1). */
export function rightsOfUnit(): string {
  const unit = join(
    import.meta.dirname,
    '../../deploy/login-host/templates/chamberlain-login-helper.service',
  );
  const [, rights = ''] = /^CapabilityBoundingSet=(.*)$/m.exec(readFileSync(unit, 'utf8')) ?? [];
  return rights.toLowerCase().replace(/(^| )cap_/g, ',+');
}
