/** Services of systemd, where it runs: elsewhere, who starts them otherwise does it. */
import { existsSync, statSync } from 'node:fs';
import { command, type Piece } from './pieces.ts';

const systemctl = (...args: string[]): string => command('/usr/bin/systemctl', args);

export function systemdRuns(): boolean {
  return existsSync('/run/systemd/system');
}

/**
 * That a service runs, is started with the machine, and has been started since its files were last changed
 * (a cut between writing them and the restart shows too). `ssh` is only restarted: it may run by its socket.
 */
export function serviceRuns(unit: string, files: readonly string[]): Piece {
  return {
    what: `service ${unit}`,
    differs() {
      if (!systemdRuns()) return undefined;
      const seen = properties(unit);
      if (unit !== 'ssh') {
        if (seen['NeedDaemonReload'] === 'yes') return 'has a unit file that systemd has not read';
        if (seen['UnitFileState'] !== 'enabled') return 'is not started with the machine';
        if (seen['ActiveState'] !== 'active') return `is ${seen['ActiveState']}`;
      } else if (seen['ActiveState'] !== 'active') return undefined;
      const sinceMs = Number(process.hrtime.bigint() / 1000n - startOf(seen)) / 1000;
      const startedMs = Date.now() - sinceMs;
      const changed = files.find((path) => existsSync(path) && statSync(path).mtimeMs > startedMs);
      return changed === undefined ? undefined : `has not been started since ${changed} changed`;
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

/** Microseconds of CLOCK_MONOTONIC, which is what process.hrtime counts too. */
function startOf(seen: Readonly<Record<string, string>>): bigint {
  return BigInt(seen['ActiveEnterTimestampMonotonic'] ?? 0);
}
