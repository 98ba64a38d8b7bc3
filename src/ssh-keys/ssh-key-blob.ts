/**
 * The binary part of a public SSH key, read field by field (RFC 4253 section 6.6, RFC 5656 section
 * 3.1, RFC 8709 section 4, OpenSSH's PROTOCOL.u2f), with the mathematical checks of each type.
 */
import { ECDH } from 'node:crypto';
import { isEd25519Point, readSoundY } from './ed25519-point.ts';
import { fieldOf } from './ssh-wire.ts';

export type BlobVerdict =
  | { ok: true; bits: number }
  | { ok: false; why: 'malformed' | 'weak' | 'private'; sentence: string };

const MIN_RSA_BITS = 2048;
/** OpenSSL's own limit, OPENSSL_RSA_MAX_MODULUS_BITS. */
const MAX_RSA_BITS = 16384;
/** OpenSSL's limit for large moduli, OPENSSL_RSA_MAX_PUBEXP_BITS. */
const MAX_RSA_EXPONENT_BITS = 64;

interface Curve {
  bits: 256 | 384 | 521;
  /** its name in OpenSSL */
  openssl: string;
}
const CURVES: Readonly<Record<string, Curve>> = {
  nistp256: { bits: 256, openssl: 'prime256v1' },
  nistp384: { bits: 384, openssl: 'secp384r1' },
  nistp521: { bits: 521, openssl: 'secp521r1' },
};

interface Shape {
  /** the number of fields after the inner type */
  fields: number;
  /** the possible numbers of these fields in a private key of this type, in ssh-agent's form */
  privateFields: readonly number[];
  check: (fields: readonly Buffer[], isSealed: boolean) => BlobVerdict;
}

const SHAPES: Readonly<Record<string, Shape>> = {
  'ssh-ed25519': {
    fields: 1,
    privateFields: [2],
    check: ([point], isSealed) => checkEd25519(point, isSealed),
  },
  'sk-ssh-ed25519@openssh.com': {
    fields: 2,
    privateFields: [],
    check: ([point, application], isSealed) =>
      checkApplication(application, checkEd25519(point, isSealed)),
  },
  'sk-ecdsa-sha2-nistp256@openssh.com': {
    fields: 3,
    privateFields: [],
    check: ([curve, point, application]) =>
      checkApplication(application, checkEcdsa('nistp256', curve, point)),
  },
  ...Object.fromEntries(
    Object.keys(CURVES).map((name): [string, Shape] => [
      `ecdsa-sha2-${name}`,
      { fields: 2, privateFields: [3], check: ([curve, point]) => checkEcdsa(name, curve, point) },
    ]),
  ),
  'ssh-rsa': {
    fields: 2,
    privateFields: [5, 6],
    check: ([exponent, modulus]) => checkRsa(exponent, modulus),
  },
};

/** The types of accepted keys. */
export const KEY_TYPES: readonly string[] = Object.keys(SHAPES);

/**
 * Checks the binary part of a key of a type in KEY_TYPES.
 *
 * @param isSealed the key was checked before: faults that would only make it useless are not looked for again
 */
export function checkBlob(type: string, blob: Buffer, isSealed: boolean): BlobVerdict {
  const fields = readFields(blob);
  const [inner, ...rest] = fields ?? [];
  const shape = SHAPES[type];
  if (fields === undefined || inner === undefined || shape === undefined) {
    return malformed('The key is cut off or damaged. Copy the whole line again.');
  }
  if (inner.toString('latin1') !== type) {
    return malformed(
      `The line says ${type}, but the key itself has another type. Copy the line again.`,
    );
  }
  if (shape.privateFields.includes(rest.length) && rest.every(({ length }) => length > 0)) {
    return PRIVATE;
  }
  if (rest.length !== shape.fields) {
    return malformed('The key has too many or too few fields. Copy the whole line again.');
  }
  const verdict = shape.check(rest, isSealed);
  // Each check allows only one form of its fields, so this must give the same bytes. Verify it.
  if (
    verdict.ok &&
    !Buffer.concat([Buffer.from(type, 'latin1'), ...rest].map(fieldOf)).equals(blob)
  ) {
    return malformed('The key is not in its canonical form. Make a new key.');
  }
  return verdict;
}

const PRIVATE: BlobVerdict = { ok: false, why: 'private', sentence: '' };

function malformed(sentence: string): BlobVerdict {
  return { ok: false, why: 'malformed', sentence };
}

function weak(sentence: string): BlobVerdict {
  return { ok: false, why: 'weak', sentence };
}

/** Reads the fields, each after its length in four bytes. Undefined if they do not end with the blob. */
function readFields(blob: Buffer): Buffer[] | undefined {
  const fields: Buffer[] = [];
  let at = 0;
  while (at < blob.length) {
    if (blob.length - at < 4) return undefined;
    const end = at + 4 + blob.readUInt32BE(at);
    if (end > blob.length) return undefined;
    fields.push(blob.subarray(at + 4, end));
    at = end;
  }
  return fields;
}

function checkEd25519(point: Buffer | undefined, isSealed: boolean): BlobVerdict {
  if (point?.length !== 32)
    return malformed(
      'An Ed25519 key must have 32 bytes; this one does not. Copy the whole line again.',
    );
  const isSound = isSealed ? readSoundY(point) !== undefined : isEd25519Point(point);
  if (!isSound) {
    return weak('This Ed25519 key is a point that ssh-keygen would never make. Make a new key.');
  }
  return { ok: true, bits: 256 };
}

function checkEcdsa(
  name: string,
  curveName: Buffer | undefined,
  point: Buffer | undefined,
): BlobVerdict {
  const curve = CURVES[name];
  if (curve === undefined || curveName?.toString('latin1') !== name) {
    return malformed('The type and the curve of the key do not agree. Copy the line again.');
  }
  const sizeBytes = Math.ceil(curve.bits / 8);
  if (point?.length !== 1 + 2 * sizeBytes || point[0] !== 4) {
    return malformed(
      'The point of the key is not in the form that OpenSSH writes. Make a new key.',
    );
  }
  try {
    // OpenSSL refuses a point that is not on the curve. The group has prime order, so no other check is needed.
    ECDH.convertKey(point, curve.openssl);
  } catch {
    return weak('The point of this key is not on its curve. Make a new key.');
  }
  return { ok: true, bits: curve.bits };
}

/** Checks the application for which a security key made the key: `ssh:` and any text that its owner added. */
function checkApplication(application: Buffer | undefined, verdict: BlobVerdict): BlobVerdict {
  if (!verdict.ok) return verdict;
  return /^ssh:[\x20-\x7e]{0,200}$/.test(application?.toString('latin1') ?? '')
    ? verdict
    : malformed(
        'The security key made this key for an application other than ssh. Make a new key with ssh-keygen -t ed25519-sk.',
      );
}

function checkRsa(exponent: Buffer | undefined, modulus: Buffer | undefined): BlobVerdict {
  const e = readMpint(exponent);
  const n = readMpint(modulus);
  if (e === undefined || n === undefined)
    return malformed('A number in the key is not in canonical form. Make a new key.');
  const bits = bitLength(n);
  if (bits < MIN_RSA_BITS) {
    return weak(
      `An RSA key must have at least ${MIN_RSA_BITS} bits; this one has ${bits}. Make an Ed25519 key.`,
    );
  }
  if (bits > MAX_RSA_BITS) {
    return weak(
      `An RSA key may have at most ${MAX_RSA_BITS} bits; this one has ${bits}. Make an Ed25519 key.`,
    );
  }
  if (n % 2n === 0n) return weak('The modulus of this RSA key is even. Make a new key.');
  if (e < 3n || e % 2n === 0n || bitLength(e) > MAX_RSA_EXPONENT_BITS) {
    return weak('The exponent of this RSA key is not valid. Make a new key.');
  }
  return { ok: true, bits };
}

/** Reads a positive number in the only form of RFC 4251 section 5: no unnecessary leading zero, no sign. */
function readMpint(field: Buffer | undefined): bigint | undefined {
  const [first, second = 0] = field ?? [];
  if (field === undefined || first === undefined || first >= 0x80) return undefined;
  if (first === 0 && second < 0x80) return undefined;
  return BigInt(`0x${field.toString('hex')}`);
}

function bitLength(value: bigint): number {
  return value.toString(2).length;
}
