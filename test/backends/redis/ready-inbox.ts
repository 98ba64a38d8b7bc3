import { type Inbox, openInbox } from '../../../src/backends/redis/request-queues.ts';
import { eventually } from '../../scenarios/eventually.ts';

/** An inbox all of whose portals are logged in: until they are, nothing is taken from their queues. */
export async function openReadyInbox(...of: Parameters<typeof openInbox>): Promise<Inbox> {
  const inbox = openInbox(...of);
  await eventually('its connections', () =>
    inbox.queues.every(({ connection: { status } }) => status === 'ready'),
  );
  return inbox;
}
