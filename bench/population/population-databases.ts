/**
 * Fills the database servers: one account is created by statements, and the rows that the server has written
 * for it are copied for all others. This takes seconds instead of minutes for 40,000 accounts, and gives
 * exactly the rows that the statements leave.
 */
import { administer } from '../../dev/servers/mariadb.ts';
import { verifierOf } from '../../src/credentials/credentials.ts';
import type { Population } from './population.ts';
import { PASSWORD, PEOPLE_FIRST, TOOLS_FIRST } from './population-names.ts';
import type { MeasuredRealm } from '../realm.ts';
import { accountStatement } from '../tools/shapes.ts';

const MODEL = 's1';

export async function fillDatabases(
  { stack }: MeasuredRealm,
  population: Population,
): Promise<void> {
  const users = `(SELECT CONCAT('u', ${PEOPLE_FIRST} + seq) AS name FROM seq_0_to_${population.people - 1}
                  UNION ALL SELECT CONCAT('s', ${TOOLS_FIRST} + seq) FROM seq_0_to_${population.tools - 1}) AS u`;
  const model = (kind: 'replica' | 'toolsdb') =>
    `USE mysql; ${accountStatement(MODEL, kind, verifierOf(PASSWORD))}
     INSERT INTO global_priv (Host, User, Priv)
       SELECT m.Host, u.name, m.Priv FROM global_priv m JOIN ${users} WHERE m.User = '${MODEL}';`;
  const end = `FLUSH PRIVILEGES; DROP USER '${MODEL}'@'%';`;
  await Promise.all([
    administer(stack.replica.socket, `${model('replica')} ${end}`),
    administer(
      stack.tools.socket,
      `${model('toolsdb')}
       CREATE TABLE bench_model AS SELECT * FROM db WHERE User = '${MODEL}';
       CREATE TABLE bench_rows AS SELECT m.*, u.name AS bench_name FROM bench_model m JOIN ${users};
       UPDATE bench_rows SET Db = REPLACE(Db, '${MODEL}', bench_name), User = bench_name;
       ALTER TABLE bench_rows DROP COLUMN bench_name;
       INSERT INTO db SELECT * FROM bench_rows;
       DROP TABLE bench_rows, bench_model;
       ${end}`,
    ),
  ]);
}
