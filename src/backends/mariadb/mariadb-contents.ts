/** What is in a database, so exactly that two of the same names and numbers of rows are told apart. */
import { createHash } from 'node:crypto';
import { type Contents, holdsRows, type Inventory } from '../../archives/databases-manifest.ts';
import type { Row } from './mariadb-accounts.ts';
import type { Connection } from './mariadb-connections.ts';

/**
 * A hash of each thing that the inventory names: of the statement that makes it and, of a table, of the checksum of its
 * rows. What the server notes beside that, such as when a trigger was made or that an event is over, does not count. Each
 * row is read: as fast as it is counted where no index serves for that.
 */
export async function readContents(
  connection: Connection,
  database: string,
  { tables, views, triggers, routines, events }: Inventory,
): Promise<Contents> {
  const contents: Contents = {};
  const of = (name: string) => `${connection.escapeId(database)}.${connection.escapeId(name)}`;
  const create = async (kind: string, name: string) => {
    const [row = {}] = await connection.query<Row[]>(`SHOW CREATE ${kind} ${of(name)}`);
    return Object.entries(row).find(([key]) => /^Create |^SQL Original/u.test(key))?.[1];
  };
  const note = (what: string, ...values: unknown[]) => {
    contents[what] = createHash('sha256').update(values.map(String).join('\n')).digest('hex');
  };
  for (const table of tables) {
    const made = await create('TABLE', table.name);
    note(`table ${table.name}`, made, await readRows(connection, of(table.name), table));
  }
  for (const name of views) note(`view ${name}`, await create('VIEW', name));
  for (const name of triggers) note(`trigger ${name}`, await create('TRIGGER', name));
  for (const routine of routines) {
    const [, kind = '', name = ''] =
      /^(PROCEDURE|FUNCTION|PACKAGE BODY|PACKAGE) (.*)$/su.exec(routine) ?? [];
    note(`routine ${routine}`, await create(kind, name));
  }
  for (const name of events) {
    const [row] = await connection.query<Row[]>(
      `SELECT EVENT_DEFINITION AS body FROM information_schema.EVENTS
       WHERE EVENT_SCHEMA = ? AND EVENT_NAME = ?`,
      [database, name],
    );
    note(`event ${name}`, row?.['body']);
  }
  return contents;
}

/** What tells the rows of a table from others; of a sequence, where it is. */
async function readRows(
  connection: Connection,
  at: string,
  table: Inventory['tables'][number],
): Promise<unknown> {
  if (table.type === 'SEQUENCE') {
    const [row] = await connection.query<Row[]>(`SELECT next_not_cached_value AS next FROM ${at}`);
    return row?.['next'];
  }
  if (!holdsRows(table)) return '';
  const [row] = await connection.query<Row[]>(`CHECKSUM TABLE ${at} EXTENDED`);
  const checksum = row?.['Checksum'];
  if (checksum === null || checksum === undefined)
    throw new Error(`the table ${table.name} cannot be read`);
  return checksum;
}
