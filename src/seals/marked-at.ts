/** How recent the places of a role are, by their markers (src/seals/heartbeat.ts). */
import { newestOf, timeOfShortMarker } from './heartbeat.ts';
import type { PlaceMarkers } from './publish-place-markers.ts';

/** The time of the newest marker, whoever signed it. Undefined if no place has one. Throws BACKEND_UNREADABLE. */
export async function readMarkedAt<Place extends string>(
  markers: PlaceMarkers<Place>,
): Promise<Date | undefined> {
  try {
    const texts = await Promise.all(markers.places.map((place) => markers.read(place)));
    return newestOf(texts.map((text) => timeOfShortMarker(text ?? '')));
  } finally {
    await markers.close();
  }
}
