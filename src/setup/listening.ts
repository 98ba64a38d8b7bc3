/** What has the servers listen for other machines, over TLS alone, besides their unix sockets. */
import { absent, file, folder } from '../../deploy/login-host/pieces.ts';
import type { Answers } from './answers.ts';
import { ETC, LISTENERS, mariadbUnit, REDIS, SLAPD } from './places.ts';
import { together } from './programs.ts';
import type { Piece } from './setup.ts';

const BY_SETUP = '# Written by `chamberlain setup`, because other machines reach this one.\n';
const NETWORK = 'RestrictAddressFamilies=AF_INET AF_INET6\n';

/** A server's settings, and what its unit must let it do besides. */
export interface Listening {
  unit: string;
  /** beside the settings of the operator's own; undefined if the unit says all */
  settings?: { path: string; text: string };
  unitLines: string;
}

export const REDIS_LISTENS = {
  unit: REDIS.unit,
  settings: {
    path: `${ETC}/redis/chamberlain-setup.conf`,
    text: `${BY_SETUP}tls-port ${LISTENERS.redis.port}
tls-cert-file ${LISTENERS.redis.file}
tls-key-file ${LISTENERS.redis.file}
tls-auth-clients no
`,
  },
  unitLines: NETWORK,
} satisfies Listening;

/** A port below 1024 needs a capability. */
export const SLAPD_LISTENS: Listening = {
  unit: SLAPD.unit,
  unitLines: `Environment=LISTEN=ldaps:///
${NETWORK}AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
`,
};

/** Other instances read the same files, but not this group. */
export const mariadbListens = (name: string) =>
  ({
    unit: mariadbUnit(name),
    settings: {
      path: `${ETC}/mariadb/chamberlain-setup.cnf`,
      text: `${BY_SETUP}[mariadbd.${name}]
skip-networking = 0
bind-address = *
port = ${LISTENERS.mariadb.port}
require-secure-transport = 1
ssl-cert = ${LISTENERS.mariadb.file}
ssl-key = ${LISTENERS.mariadb.file}
`,
    },
    unitLines: NETWORK,
  }) satisfies Listening;

const dropInsOf = ({ unit }: Listening): string => `/etc/systemd/system/${unit}.d`;

/** What changes whenever these settings do: the service must have been started after that. */
export const filesOf = (listening: Listening): string[] => [
  ...(listening.settings === undefined ? [] : [listening.settings.path]),
  dropInsOf(listening), // a folder, because a drop-in that has gone has no time
];

export function listeningPiece(
  listening: Listening,
  { listen }: Answers,
  needs: readonly Piece[],
): Piece {
  const { unit, settings, unitLines } = listening;
  const dropIns = dropInsOf(listening);
  const texts = new Map([
    ...(settings === undefined ? [] : [[settings.path, settings.text] as const]),
    [`${dropIns}/chamberlain-setup.conf`, `${BY_SETUP}[Service]\n${unitLines}`] as const,
  ]);
  const paths = [...texts.keys()];
  const parts =
    listen === undefined
      ? paths.map((path) => absent(path))
      : [
          folder(dropIns, { mode: 0o755 }),
          ...[...texts].map(([path, contents]) => file(path, { mode: 0o644, contents })),
        ];
  const does =
    listen === undefined
      ? `removes ${paths.join(' and ')}`
      : `writes ${paths.join(' and ')}: it listens on all addresses, over TLS alone`;
  return together(`the addresses of ${unit}`, does, parts, needs);
}
