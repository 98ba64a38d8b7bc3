/**
 * How a server is reached: without TLS by a unix socket or on this machine, and otherwise only by TLS, with a
 * certificate that is valid for its name.
 */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import { cannotRead } from './errors.ts';

/** A host name or an address, and the PEM file of the authorities that may sign its certificate. */
export interface TlsPlace {
  host: string;
  /** by default those that Debian's `update-ca-certificates` has gathered */
  caFile?: string | undefined;
}

const SYSTEM_CAS = '/etc/ssl/certs/ca-certificates.crt';
const THIS_MACHINE = /^(localhost|127\.0\.0\.1|\[?::1\]?)$/iu;

/** Whether what is sent to it stays on this machine: the path of a socket, or a name of the loopback interface. */
export function isThisMachine(host: string): boolean {
  return host.startsWith('/') || THIS_MACHINE.test(host);
}

/** Whether the name may mean each machine itself. If it is one below `localhost` (RFC 6761, 6.3), TLS is still needed. */
export function isLocal(host: string): boolean {
  return isThisMachine(host) || host.toLowerCase().endsWith('.localhost');
}

/** Whether it is an address, in any form that a program takes for one (inet_aton(3)): such as 10.1.2.3, 1.1, 0 or 0x7f.1. */
export function isAddress(name: string): boolean {
  return /(?:^|\.)(?:\d+|0x[0-9a-f]*)$/u.test(name);
}

/** The host of a URL: of an IPv6 address without its brackets. */
export function hostOf({ hostname }: Pick<URL, 'hostname'>): string {
  return hostname.replace(/^\[|\]$/gu, '');
}

export function caFileOf({ caFile = SYSTEM_CAS }: Pick<TlsPlace, 'caFile'>): string {
  return caFile;
}

/** What Node needs to connect. Throws CONFIG_INVALID if the authorities cannot be read. */
export function tlsOptions(place: TlsPlace): ConnectionOptions & { host: string; ca: Buffer } {
  const { host } = place;
  const path = caFileOf(place);
  try {
    return {
      host, // whose name or address the certificate must have
      servername: isIP(host) === 0 ? host : '', // RFC 6066: not an address
      ca: readFileSync(path),
    };
  } catch (cause) {
    throw cannotRead('certificates of the authorities', path, cause);
  }
}
