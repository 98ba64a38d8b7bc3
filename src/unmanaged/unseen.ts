/** Which places the list of unmanaged things says nothing about. */
import type { Config } from '../shared/config.ts';
import type { Role } from '../reconcile/wanted.ts';
import { REGISTRY } from '../roles/index.ts';

/** Every place is looked at several times within this time. */
const LATE_MS = 120_000;

/** A place that was never looked at, or not for a long time. */
export interface Unseen {
  role: Role;
  /** for people */
  place: string;
  lookedAt: Date | null;
}

export function unseenOf(
  config: Config,
  looks: readonly { role: Role; place: string; at: Date }[],
  now: Date,
): Unseen[] {
  return REGISTRY.flatMap(({ name: role, places }) =>
    places(config).flatMap(([place, text]) => {
      const at = looks.find((look) => look.role === role && look.place === place)?.at;
      const isLate = at === undefined || now.getTime() - at.getTime() > LATE_MS;
      return isLate ? [{ role, place: text, lookedAt: at ?? null }] : [];
    }),
  );
}
