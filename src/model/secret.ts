/** A password, or what reads it for each connection anew: whoever changes it restarts nothing. */
export type Secret = string | (() => string);

/** The password as it is now. */
export function secretNow(secret: Secret): string {
  return typeof secret === 'function' ? secret() : secret;
}
