/** One tool after another, without other requests: from `Queue.add` to its `tool.ready`. */
import { now } from './tools/figure.ts';
import type { Portal } from './portal.ts';
import type { AskedTool } from './tools/stages.ts';

/** The first person, who is an admin. */
export const STEWARD = 'steward';
/** The person who requests all tools: a realm member, not an admin. */
export const MAKER = 'maker';

/** Creates the person who requests the tools. */
export async function admitMaker(portal: Portal): Promise<void> {
  await admit(portal, MAKER);
}

/** Creates a person who is a realm member, and waits until that is applied. */
export async function admit(portal: Portal, shellName: string): Promise<void> {
  const email = `${shellName}@example.org`;
  const person = { kind: 'person.create', shellName, displayName: `Person ${shellName}`, email };
  await portal.settle(shellName, person);
  await portal.settle(STEWARD, { kind: 'access.grant', person: shellName });
}

export function toolRequest(name: string): Record<string, unknown> {
  return { kind: 'tool.create', name, title: `The tool ${name}` };
}

/** Requests `count` tools, each when the previous one is ready. */
export async function makeTools(
  portal: Portal,
  prefix: string,
  count: number,
): Promise<AskedTool[]> {
  const tools: AskedTool[] = [];
  for (let n = 0; n < count; n++) {
    const request = await portal.sign(MAKER, toolRequest(`${prefix}-${n}`));
    const ready = portal.until(request.jti, 'tool.ready');
    const askedAt = now();
    await portal.send([request]);
    tools.push({ jti: request.jti, askedAt, ready: await ready });
  }
  return tools;
}

/** Milliseconds from `Queue.add` to the event. */
export function latencies(tools: readonly AskedTool[]): number[] {
  return tools.map(({ askedAt, ready }) => ready.heardAt - askedAt);
}
