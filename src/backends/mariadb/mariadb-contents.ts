/** What is in a database, so exactly that two with the same names and numbers of rows can be distinguished. */
import { createHash } from 'node:crypto';
import { type Contents, holdsRows, type Inventory } from '../../archives/databases-manifest.ts';
import type { Row } from './mariadb-accounts.ts';
import type { Connection } from './mariadb-connections.ts';

/**
 * A hash of each thing that the inventory names: of the statement that creates it and, for a table, of the
 * checksum of its rows. What the server records besides, such as when a trigger was created or that an event is
 * over, does not count. Each row is read, which is as fast as counting the rows if no index helps with that.
 */
export async function readContents(
  connection: Connection,
  database: string,
  { tables, views, triggers, routines, events }: Inventory,
): Promise<Contents> {
  const contents: Contents = {};
  const of = (name: string) => `${connection.escapeId(database)}.${connection.escapeId(name)}`;
  const create = (kind: string, name: string) => readStatement(connection, kind, of(name));
  const note = (what: string, ...values: unknown[]) => {
    contents[what] = createHash('sha256').update(values.map(String).join('\n')).digest('hex');
  };
  for (const table of tables) {
    const made = await create('TABLE', table.name);
    note(`table ${table.name}`, made, await readRows(connection, of(table.name), table));
  }
  for (const name of views) note(`view ${name}`, await create('VIEW', name));
  for (const name of triggers) note(`trigger ${name}`, await create('TRIGGER', name));
  for (const routine of routines) note(`routine ${routine}`, await create(...routineOf(routine)));
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

/**
 * Throws if a line of a trigger, routine or event would be a command to the client that loads it from a dump:
 * the rest would be loaded as statements of its own.
 */
export async function requireLoadable(
  connection: Connection,
  database: string,
  { triggers, routines, events }: Inventory,
): Promise<void> {
  const bodies = [
    ...triggers.map((name) => ['TRIGGER', name] as const),
    ...routines.map(routineOf),
    ...events.map((name) => ['EVENT', name] as const),
  ];
  for (const [kind, name] of bodies) {
    const at = `${connection.escapeId(database)}.${connection.escapeId(name)}`;
    const made = String(await readStatement(connection, kind, at));
    if (!/^delimiter/imu.test(made)) continue;
    throw new Error(`${kind} ${name} in ${database} has a line that begins with DELIMITER`);
  }
}

/** The statement that creates something. */
async function readStatement(connection: Connection, kind: string, at: string): Promise<unknown> {
  const [row = {}] = await connection.query<Row[]>(`SHOW CREATE ${kind} ${at}`);
  return Object.entries(row).find(([key]) => /^Create |^SQL Original/u.test(key))?.[1];
}

/** The kind and the name of a routine in an inventory. */
function routineOf(routine: string): readonly [kind: string, name: string] {
  const [, kind = '', name = ''] =
    /^(PROCEDURE|FUNCTION|PACKAGE BODY|PACKAGE) (.*)$/su.exec(routine) ?? [];
  return [kind, name];
}

/** What distinguishes the rows of a table; for a sequence, its current value. */
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
