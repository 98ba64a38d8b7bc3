/** Everything that `chamberlain setup` makes on one machine, in its order. */
import type { Answers } from './answers.ts';
import { directoryPieces } from './directory.ts';
import { filePieces } from './files.ts';
import { mariadbPieces } from './mariadb.ts';
import { packagePieces } from './packages.ts';
import { postgresPieces } from './postgres.ts';
import { folderPieces, realmPieces } from './realm.ts';
import { redisPieces } from './redis.ts';
import type { Piece } from './setup.ts';

export function allPieces(answers: Answers): Piece[] {
  const packages = packagePieces();
  const { files, secrets } = filePieces(answers, packages);
  const postgres = postgresPieces([secrets]);
  const servers = [
    ...redisPieces([secrets]),
    ...directoryPieces([secrets]),
    ...mariadbPieces(answers, [secrets]),
    ...folderPieces([secrets]),
  ];
  return [
    ...packages,
    ...files,
    ...postgres,
    ...servers,
    ...realmPieces(answers, { postgres, servers }),
  ];
}
