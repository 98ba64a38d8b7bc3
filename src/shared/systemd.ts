/**
 * What systemd is told about this process: that it has begun to work, and that it does not hang (sd_notify(3)).
 *
 * Node has no datagram sockets of unix(7). So the unit has systemd open its own: `OpenFile=/run/systemd/notify:notify`.
 * To write to it needs no further process, and systemd sees from which process it comes (`NotifyAccess=main`).
 */
import { write } from 'node:fs';
import { describeError } from './errors.ts';
import type { Log } from './log.ts';
import { openNews } from './news.ts';
import { hangingLoops } from './progress.ts';

/** The first file that systemd has opened for a process: sd_listen_fds(3). */
const FIRST_FD = 3;
/** How often the watchdog is told within its time. */
const TIMES = 4;

/**
 * Tells systemd that this process has begun to work; from then on, if the unit has a watchdog, regularly that it does not
 * hang: neither its event loop nor one of its loops (src/shared/progress.ts). Does nothing if systemd does not ask for it.
 */
export function tellSystemd(log: Log, env = process.env): void {
  const fd = env['NOTIFY_SOCKET'] === undefined ? undefined : findNotifyFd(env);
  if (fd === undefined) return;
  const news = openNews<'systemd' | 'watchdog'>();
  let isWriting = false;
  const tell = (state: string) => {
    if (isWriting) return; // systemd itself hangs
    isWriting = true;
    write(fd, state, (error) => {
      isWriting = false;
      if (error === null) news.forget('systemd');
      else if (news.isNew('systemd', error.message)) {
        log.warn({ error: describeError(error) }, 'systemd cannot be told how this process is');
      }
    });
  };
  const everyMs = watchdogMs(env) / TIMES;
  if (everyMs > 0) {
    setInterval(() => {
      const hanging = hangingLoops();
      if (hanging.length === 0) {
        news.forget('watchdog');
        tell('WATCHDOG=1');
      } else if (news.isNew('watchdog', hanging.join())) {
        log.error({ loops: hanging }, 'a loop hangs: systemd will end this process');
      }
    }, everyMs).unref();
  }
  tell('READY=1');
}

function findNotifyFd(env: NodeJS.ProcessEnv): number | undefined {
  if (Number(env['LISTEN_PID']) !== process.pid) return undefined;
  const at = (env['LISTEN_FDNAMES'] ?? '').split(':').indexOf('notify');
  return at === -1 ? undefined : FIRST_FD + at;
}

/** The time after which systemd ends a process that is silent; 0: it does not. */
function watchdogMs(env: NodeJS.ProcessEnv): number {
  if (env['WATCHDOG_PID'] !== undefined && Number(env['WATCHDOG_PID']) !== process.pid) return 0;
  return Number(env['WATCHDOG_USEC'] ?? 0) / 1000;
}
