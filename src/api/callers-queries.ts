/** What the API reads of its callers. */
import type { Client } from '../database/connection.ts';

/** Whether a person is a maintainer of the admin tool who may log in. */
export async function isAdmin(
  client: Client,
  shellName: string,
  adminTool: string,
): Promise<boolean> {
  const { rowCount } = await client.query({
    name: 'is-admin',
    text: 'SELECT FROM active_maintainers WHERE tool = $1 AND shell_name = $2',
    values: [adminTool, shellName],
  });
  return rowCount !== 0;
}

/** The number of a portal's last event; 0 if it has none. */
export async function readLastEvent(client: Client, portal: string): Promise<number> {
  const { rows } = await client.query({
    name: 'last-event',
    text: 'SELECT last FROM event_sequences WHERE portal = $1',
    values: [portal],
  });
  return Number((rows as { last: string }[])[0]?.last ?? 0);
}
