/**
 * The log: pino JSON, one line each, to standard error.
 *
 * Secrets are kept out by construction: fields with the name of a secret are never printed, an
 * error is reduced to its code and its messages (libraries hang the failed command with its
 * parameters onto theirs), and what looks like a secret inside a message is cut out.
 */
import { destination, pino, type Logger } from 'pino';
import { codeOf, describeError } from './errors.ts';

export type Log = Logger;

const SECRET_FIELDS = ['password', 'token', 'verifier', 'privateKey', 'secret', 'authorization'];

/** Verifiers of MariaDB (`*` and 40 hex digits), compact JWS, private keys in PEM, passwords in URLs. */
const SECRET_SHAPES = [
  /\*[0-9A-F]{40}/giu,
  /\beyJ[\w-]+\.[\w-]+\.[\w-]*/gu,
  /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/gu,
  /(?<=:\/\/[^\s/@:]*:)[^\s/@]+(?=@)/gu,
];

/** The text with everything in it that looks like a secret replaced. */
export function withoutSecrets(text: string): string {
  return SECRET_SHAPES.reduce((cleaned, shape) => cleaned.replace(shape, '[secret]'), text);
}

/**
 * Opens the log.
 *
 * @param level pino's: trace, debug, info, warn, error, fatal, silent
 * @param stream where lines go; standard error by default, written synchronously so that the last
 *   line before an exit is not lost
 */
export function openLog(
  level: string,
  stream: { write(line: string): void } = destination({ fd: 2, sync: true }),
): Log {
  return pino(
    {
      level,
      base: { pid: process.pid },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`, `*.*.${field}`]),
        censor: '[secret]',
      },
      serializers: { err: serializeError, error: serializeError },
    },
    stream,
  );
}

function serializeError(error: unknown): Record<string, unknown> | string {
  if (typeof error === 'string') return withoutSecrets(error);
  const stack = (error as { stack?: unknown } | null)?.stack;
  const code = codeOf(error);
  return {
    code,
    message: withoutSecrets(describeError(error)),
    context: (error as { context?: unknown } | null)?.context,
    // a fault of the program itself is found by its place
    ...(code === 'INTERNAL' && typeof stack === 'string' ? { stack: withoutSecrets(stack) } : {}),
  };
}
