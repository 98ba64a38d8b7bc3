/** Everything that `chamberlain setup` makes on one machine, in its order. */
import { systemdRuns } from '../../deploy/login-host/services.ts';
import { ROLES } from '../roles/index.ts';
import type { Answers } from './answers.ts';
import { certificatePieces } from './certificates.ts';
import { directoryPieces, directoryShows } from './directory.ts';
import { filePieces } from './files.ts';
import { mariadbPieces, mariadbShows } from './mariadb.ts';
import { addedPieces, shownPieces } from './named-directory.ts';
import { namedPieces, namedPostgresPieces } from './named.ts';
import { packagePieces } from './packages.ts';
import { postgresPieces, postgresShows } from './postgres.ts';
import { service, unneeded } from './programs.ts';
import { folderPieces, realmPieces } from './realm.ts';
import { redisPieces, redisShows } from './redis.ts';
import type { Piece } from './setup.ts';

export function allPieces(answers: Answers): Piece[] {
  const shown = shownPieces(answers);
  const packages = packagePieces(answers);
  const { files, secrets } = filePieces(answers, packages);
  const certificates = certificatePieces(answers, files);
  const named = [...namedPieces(answers, [secrets]), ...addedPieces(answers, [secrets])];
  const needs = [secrets, ...certificates, ...named];
  const postgres =
    answers.postgres === undefined ? postgresPieces(answers, needs) : namedPostgresPieces(named);
  const servers = [
    ...(answers.redis === undefined ? redisPieces(answers, needs, postgres) : []),
    ...(answers.ldap === undefined ? directoryPieces(answers, needs) : []),
    ...(answers.database.host === undefined ? mariadbPieces(answers, needs) : []),
    ...folderPieces(
      ROLES.filter((role) => !answers.elsewhere.includes(role)),
      [secrets],
    ),
  ];
  const isRenewing = answers.listen !== undefined;
  const renewing = isRenewing
    ? [service(RENEWAL, certificates)]
    : systemdRuns()
      ? [unneeded(RENEWAL, packages)]
      : [];
  return [
    ...shown,
    ...packages,
    ...files,
    ...certificates,
    ...named,
    ...postgres,
    ...servers,
    ...renewing,
    ...realmPieces(answers, { postgres, servers }),
  ];
}

const RENEWAL = 'chamberlain-certificates.timer';

/** The pieces that must be made again after a time. */
export function renewedPieces(answers: Answers): Piece[] {
  const certificates = certificatePieces(answers, [], false);
  const shows = [postgresShows, redisShows, directoryShows, mariadbShows];
  return [...certificates, ...shows.flatMap((piecesOf) => piecesOf(answers, certificates))];
}
