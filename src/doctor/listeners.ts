/** The addresses at which this machine accepts connections, as its kernel lists them. */
import { readFileSync } from 'node:fs';
import { isIPv4 } from 'node:net';

/** The state of a listening socket (TCP_LISTEN in the kernel). */
const LISTENS = '0A';

/**
 * The addresses at which other machines can reach a TCP port of this one, such as `0.0.0.0` and `::`. Read from
 * proc_pid_net(5): an address is written in hexadecimal, in words of 32 bits in the order of this machine.
 */
export function openAddresses(port: number, folder = '/proc/self/net'): string[] {
  const lines = ['tcp', 'tcp6'].flatMap((file) =>
    readFileSync(`${folder}/${file}`, 'utf8').trimEnd().split('\n').slice(1),
  );
  const found = lines.flatMap((line) => {
    const [, local = '', , state] = line.trim().split(/\s+/u);
    const [address = '', hexPort = ''] = local.split(':');
    return state === LISTENS && Number.parseInt(hexPort, 16) === port ? [readAddress(address)] : [];
  });
  return [...new Set(found)].filter((address) => !isLoopback(address));
}

/** As people write it: `127.0.0.1`, `::1`; an IPv4 address that is mapped into IPv6 as IPv4. */
function readAddress(hex: string): string {
  const bytes = (hex.match(/.{8}/gu) ?? []).flatMap((word) => [
    ...Buffer.from(word, 'hex').reverse(),
  ]);
  if (bytes.length === 4) return bytes.join('.');
  const groups = Array.from({ length: 8 }, (_, at) =>
    (((bytes[2 * at] ?? 0) << 8) | (bytes[2 * at + 1] ?? 0)).toString(16),
  );
  // the canonical form, by URL
  const text = new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
  return text.startsWith('::ffff:') ? bytes.slice(12).join('.') : text;
}

function isLoopback(address: string): boolean {
  return isIPv4(address) ? address.startsWith('127.') : address === '::1';
}
