/** What `keys-agent status` says of a login host. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import type { Machine } from '../../dev/servers/private-machine.ts';
import { PLACES } from '../../src/login-host/places.ts';
import {
  exitOf,
  renderStatus,
  runningOf,
  statusJson,
} from '../../src/login-host/programs/agent-status.ts';
import { readStatus } from '../../src/login-host/status.ts';

/**
 * The exit code, the JSON and the text, by the functions of the program: a test that waits asks often, and a start of the
 * program takes more of a processor than all that the host does meanwhile.
 */
export function statusOf({ root }: Pick<Machine, 'root'>): {
  exit: number;
  json: object;
  text: string;
} {
  const status = readStatus(join(root, PLACES.login));
  if (status === undefined) throw new Error('the login helper has written no status');
  const now = Date.now();
  const running = runningOf(status, now, (pid) => existsSync(join(root, 'proc', String(pid))));
  return {
    exit: exitOf(status, running),
    json: statusJson(status, now, running),
    text: stripVTControlCharacters(renderStatus(status, now, running)),
  };
}
