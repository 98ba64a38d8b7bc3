/** Services of systemd, if it is running; otherwise the admin starts them some other way. */
import { existsSync, statSync } from 'node:fs';
import { command, type Piece } from './pieces.ts';

const systemctl = (...args: string[]): string => command('/usr/bin/systemctl', args);

export function systemdRuns(): boolean {
  return existsSync('/run/systemd/system');
}

/**
 * Checks that a service runs, is started at boot, and was started after its files were last changed (this also
 * shows an interruption between writing them and the restart). `ssh` is only restarted: it may be started by
 * its socket.
 */
export function serviceRuns(unit: string, files: readonly string[]): Piece {
  return {
    what: `service ${unit}`,
    differs() {
      if (!systemdRuns()) return undefined;
      const seen = properties(unit);
      if (unit !== 'ssh') {
        if (seen['NeedDaemonReload'] === 'yes')
          return 'has a changed unit file that systemd has not read';
        if (seen['UnitFileState'] !== 'enabled') return 'is not started at boot';
        if (seen['ActiveState'] !== 'active') return `is ${seen['ActiveState']}`;
      } else if (seen['ActiveState'] !== 'active') return undefined;
      const sinceMs = Number(process.hrtime.bigint() / 1000n - startOf(seen)) / 1000;
      const startedMs = Date.now() - sinceMs;
      const changed = files.find((path) => existsSync(path) && statSync(path).mtimeMs > startedMs);
      return changed === undefined ? undefined : `has not been restarted since ${changed} changed`;
    },
    mend() {
      systemctl('daemon-reload');
      if (unit !== 'ssh') systemctl('enable', unit);
      systemctl('restart', unit);
    },
  };
}

function properties(unit: string): Record<string, string> {
  const names =
    'UnitFileState,ActiveState,NeedDaemonReload,ActiveEnterTimestampMonotonic,ExecMainStartTimestampMonotonic';
  const text = systemctl('show', '--property', names, unit);
  return Object.fromEntries(text.split('\n').map((line) => line.split(/=(.*)/s)));
}

/** Microseconds of CLOCK_MONOTONIC, the clock of process.hrtime. */
function startOf(seen: Readonly<Record<string, string>>): bigint {
  return BigInt(seen['ActiveEnterTimestampMonotonic'] ?? 0);
}
