/** Reads who is an admin. */
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
