/** `chamberlain recover` as an admin runs it without a terminal: reads the list, then confirms it by its digest. */
import { runCli, type Ended } from '../../cli/run-cli.ts';
import type { World } from '../../stack.ts';

/** Returns how it ended that was confirmed; or, where there was nothing to confirm, how the list did. */
export async function confirmRecovery(
  { configFile }: Pick<World, 'configFile'>,
  ...args: string[]
): Promise<Ended> {
  const config = { config: configFile };
  const listed = await runCli(['recover', '--json', ...args], config);
  if (listed.exit !== 3) return listed;
  const { digest } = JSON.parse(listed.out) as { digest: string };
  return runCli(['recover', '--expect', digest, ...args], config);
}
