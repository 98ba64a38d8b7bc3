/**
 * The log: pino JSON, one line each, to standard error.
 *
 * Secrets are kept out by construction. Fields with the name of a secret are never printed. An error is
 * reduced to its code and its messages, because libraries attach the failed command with its parameters.
 * Whatever looks like a secret in a message is cut out.
 */
import { destination, pino, type Logger } from 'pino';
import { codeOf, describeError } from './errors.ts';

export type Log = Logger;

const SECRET_FIELDS = ['password', 'token', 'verifier', 'privateKey', 'secret', 'authorization'];

/**
 * The forms of secrets: verifiers of MariaDB (`*` and 40 hex digits), compact JWS, private keys in PEM, passwords in
 * URLs.
 */
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
 * @param stream where lines go. The default is standard error, written synchronously so that the last
 *   line before an exit is not lost.
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
    // the stack shows the place of a fault in the program itself
    ...(code === 'INTERNAL' && typeof stack === 'string' ? { stack: withoutSecrets(stack) } : {}),
  };
}
