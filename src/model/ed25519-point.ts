/** Tells sound Ed25519 public keys from those that no key pair has (RFC 8032 section 5.1). */

const P = 2n ** 255n - 19n;
const D = 37095705934669439343138083508754565189542113879843219016388785533085940283555n;

/** The y of two of the four points of order 8; the others have its negative. */
const Y8 = 2707385501144840649318225287225658788936804267575313519463743609750303402022n;
/** The y of the points of order 1, 2, 4 and 8: with such a key, signatures can be made up. */
const SMALL_ORDER_Y: ReadonlySet<bigint> = new Set([0n, 1n, P - 1n, Y8, P - Y8]);

/**
 * Whether 32 bytes are the canonical encoding of a point on the curve that is not of small order.
 * ssh-keygen and node:crypto take any 32 bytes.
 */
export function isEd25519Point(bytes: Uint8Array): boolean {
  const little = BigInt(`0x${Buffer.from(bytes.toReversed()).toString('hex')}`);
  const y = little & (2n ** 255n - 1n);
  if (y >= P || SMALL_ORDER_Y.has(y)) return false;
  // x² = (y² − 1) / (d·y² + 1) has a solution if the quotient is a square; so is the product then.
  const square = (y * y) % P;
  return isSquare((((square - 1n + P) % P) * ((D * square + 1n) % P)) % P);
}

/** Euler's criterion; 0 is a square. */
function isSquare(value: bigint): boolean {
  return power(value, (P - 1n) / 2n) <= 1n;
}

function power(base: bigint, exponent: bigint): bigint {
  let result = 1n;
  for (let factor = base, rest = exponent; rest > 0n; rest >>= 1n) {
    if ((rest & 1n) === 1n) result = (result * factor) % P;
    factor = (factor * factor) % P;
  }
  return result;
}
