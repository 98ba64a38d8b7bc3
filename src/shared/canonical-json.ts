/** JSON with keys in one order, so that equal values have equal bytes (RFC 8785 for what we hold: strings, whole numbers, booleans, null, arrays, objects). */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
      : inner,
  );
}

/**
 * JSON with U+FFFD in its strings where there was U+0000, which no text and no jsonb of PostgreSQL can
 * hold, though a directory can.
 */
export function withoutNuls(json: string): string {
  if (!json.includes('\\u0000')) return json; // they are megabytes
  return json.replace(/\\(?:u0000|.)/gu, (escape) => (escape === '\\u0000' ? '\uFFFD' : escape));
}
