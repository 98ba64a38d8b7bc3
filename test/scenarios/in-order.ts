/** Tests that share one world: each begins with what the one before has left. */

/**
 * Runs them, each by its name. Once one has failed, the others fail at once: the world is as it left it, and each would
 * wait in vain, for a minute and more.
 */
export function inOrder(): (name: string, run: () => Promise<void>) => Promise<void> {
  let failed: string | undefined;
  return async (name, run) => {
    if (failed !== undefined) throw new Error(`not tried: "${failed}" failed`);
    failed = name;
    await run();
    failed = undefined;
  };
}
