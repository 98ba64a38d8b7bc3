/**
 * JSON with sorted keys, so that equal values have equal bytes (RFC 8785, for strings, whole numbers, booleans, null,
 * arrays and objects).
 */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
      : inner,
  );
}

/**
 * JSON with each U+0000 in its strings replaced by U+FFFD. A directory can hold U+0000, but text and jsonb in
 * PostgreSQL cannot.
 */
export function withoutNuls(json: string): string {
  if (!json.includes('\\u0000')) return json; // the text may have megabytes
  return json.replace(/\\(?:u0000|.)/gu, (escape) => (escape === '\\u0000' ? '\uFFFD' : escape));
}
