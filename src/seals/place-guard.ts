/**
 * Checks the markers of a role's places right before access is given there. Nothing is given at a place that was
 * restored from a backup since the loop of publish-place-markers.ts last looked, and nothing is given if our database
 * was.
 *
 * Each job that gives access reads the marker of each place concerned: 0.13 ms for a MariaDB server, 0.3 ms for an area
 * of homes.
 */
import { codeOf, describeError } from '../shared/errors.ts';
import type { Role } from '../reconcile/wanted.ts';
import { placesOf, takesAway } from '../reconcile/policy.ts';
import { olderCopy, type SubjectSurvey, type Withheld } from '../reconcile/engine.ts';
import * as store from './place-markers-table.ts';
import type { Pool } from '../database/connection.ts';
import { carrierOf, type PlaceMarkers } from './publish-place-markers.ts';

export interface PlaceGuard {
  /** The places that are older copies of themselves, as our database knows. */
  older(known: readonly store.KnownPlace[]): Withheld[];
  /**
   * The places where access is to be given that are in doubt, or whose marker cannot be read.
   *
   * @param known the places as our database knew them before
   */
  doubted(
    found: readonly Pick<SubjectSurvey, 'steps'>[],
    known: readonly store.KnownPlace[],
  ): Promise<Withheld[]>;
  close(): Promise<void>;
}

/** The guard of a role whose places carry no markers. */
export const NO_GUARD: PlaceGuard = {
  older: () => [],
  doubted: () => Promise.resolve([]),
  close: async () => {},
};

export function openPlaceGuard(role: Role, markers: PlaceMarkers, pool: Pool): PlaceGuard {
  async function look(place: string, known: store.KnownPlace | undefined): Promise<Withheld[]> {
    const of = { role, place };
    const read = () => markers.read(place);
    try {
      if (known !== undefined && store.isAsPublished(await read(), known)) return [];
      const { doubt, publishing } = await store.lookAtPlace(
        pool,
        of,
        read,
        carrierOf(markers, place),
      );
      if (doubt === undefined) return [];
      await store.writePlaceDoubt(pool, of, doubt, publishing);
      return [{ place, sentence: doubt.sentence }];
    } catch (error) {
      if (codeOf(error) !== 'BACKEND_UNREADABLE') throw error;
      return [{ place, sentence: describeError(error) }];
    }
  }

  return {
    older: (known) => store.olderOf(known).map((place) => olderCopy(place, markers.nameOf(place))),
    async doubted(found, known) {
      const given = new Set(
        found.flatMap(({ steps }) =>
          steps.flatMap((step) => (takesAway(step) ? [] : placesOf(step.action))),
        ),
      );
      const places = markers.places.filter((place) => given.has(place));
      const looks = places.map((place) =>
        look(
          place,
          known.find((each) => each.place === place),
        ),
      );
      return (await Promise.all(looks)).flat();
    },
    close: () => markers.close(),
  };
}
