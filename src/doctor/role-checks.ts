/** What a role adds to `chamberlain doctor`. */
import type { Config } from '../shared/config.ts';
import type { Check, Line, Server } from './line.ts';

/** What the checks of a role are given. */
interface Looking {
  config: Config;
  /** the program's own folder */
  root: string;
  at: (
    group: string,
    subject: string,
    todo: string,
    act: () => Line[] | Promise<Line[]>,
    needs?: readonly Server[],
  ) => Check;
  /**
   * A server that the role looks at.
   *
   * @param place what it is called in the table of troubles
   * @param key the part of the configuration that says where it is
   */
  server: (place: string, name: string, key: string) => Server;
}

export interface RoleChecks {
  /** the checks of the group `this host` are shown with the other checks of that group */
  checksOf: (looking: Looking) => Check[];
}
