/**
 * The decoder of large searches, given what a server may send: in any pieces, cut, or malformed.
 * test/scenarios/drift/drift-bulk.ts covers what a real slapd sends.
 */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterEach, expect, test } from '@jest/globals';
import { cutMessages } from '../../../src/backends/ldap/ldap-messages.ts';
import { readPages } from '../../../src/backends/ldap/ldap-pages.ts';

type Content = Buffer | string | number;

/** One element of BER; lengths of any size. */
function ber(tag: number, ...content: Content[]): Buffer {
  const body = Buffer.concat(
    content.map((each) => (typeof each === 'number' ? Buffer.of(each) : Buffer.from(each))),
  );
  const size = Buffer.alloc(4);
  size.writeUInt32BE(body.length);
  const length =
    body.length < 0x80 ? Buffer.of(body.length) : Buffer.concat([Buffer.of(0x84), size]);
  return Buffer.concat([Buffer.of(tag), length, body]);
}
const octets = (content: Content) => ber(0x04, content);
const message = (id: number, ...content: Content[]) =>
  ber(0x30, ber(0x02, 0, ...[16, 8, 0].map((bits) => (id >> bits) & 0xff)), ...content);
const entry = (id: number, dn: string, attributes: Record<string, Content[]>) =>
  message(
    id,
    ber(
      0x64,
      octets(dn),
      ber(
        0x30,
        ...Object.entries(attributes).map(([type, values]) =>
          ber(0x30, octets(type), ber(0x31, ...values.map(octets))),
        ),
      ),
    ),
  );
const done = (id: number, code: number, cookie?: string) =>
  message(
    id,
    ber(0x65, ber(0x0a, code), octets(''), octets(code === 0 ? '' : 'no more')),
    ...(cookie === undefined
      ? []
      : [
          ber(
            0xa0,
            ber(
              0x30,
              octets('1.2.840.113556.1.4.319'),
              octets(ber(0x30, ber(0x02, 0), octets(cookie))),
            ),
          ),
        ]),
  );

let server: Server | undefined;
afterEach(() => void server?.close());

/** A server that answers the request with that id by calling `answer`. */
async function connectTo(answer: (id: number, to: Socket) => void): Promise<Socket> {
  server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (data) => answer(data.readUInt32BE(), socket));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  await once(socket, 'connect');
  return socket;
}
const requestOf = (id: number) => {
  const request = Buffer.alloc(4);
  request.writeUInt32BE(id);
  return request;
};

/** DN and attributes of each entry, page by page. */
async function readAll(answer: (id: number, to: Socket) => void, timeoutMs = 5000) {
  const pages: unknown[][] = [];
  for await (const page of readPages(await connectTo(answer), requestOf, timeoutMs)) {
    pages.push(page.map((each) => [each.dn, ...each.attributes((type) => type).flat()]));
  }
  return pages;
}

const LARGE = 'x'.repeat(100_000);
const twoPages = (id: number): Buffer =>
  id % 2 === 1
    ? Buffer.concat([
        entry(id, 'uid=a', { uid: ['a'], cn: ['Ä', Buffer.of(0xff), '\uFFFD'], none: [] }),
        entry(id, 'uid=b', { description: [LARGE], cn: ['\uFEFFb'] }),
        done(id, 0, 'more'),
      ])
    : Buffer.concat([entry(id, 'uid=c', { uid: ['c'] }), done(id, 0, '')]);
const AS_READ = [
  [
    ['uid=a', 'uid', ['a'], 'cn', ['Ä', Buffer.of(0xff), '\uFFFD'], 'none', []],
    ['uid=b', 'description', [LARGE], 'cn', ['b']],
  ],
  [['uid=c', 'uid', ['c']]],
];

test('reads page after page', async () => {
  expect(await readAll((id, to) => to.write(twoPages(id)))).toEqual(AS_READ);
});

test.each([1, 7, 4096])('pages may come in any pieces: %d bytes', async (piece) => {
  const answer = async (id: number, to: Socket) => {
    const bytes = twoPages(id);
    // the large value in the middle need not come byte by byte
    const ends = [0, ...Array.from({ length: 150 }, (_, n) => (n + 1) * piece), bytes.length - 30];
    for (let n = bytes.length - 30; n < bytes.length;) ends.push((n += piece));
    const sorted = [...new Set(ends.filter((end) => end >= 0 && end < bytes.length))].toSorted(
      (a, b) => a - b,
    );
    to.setNoDelay(true);
    for (const [n, begin] of sorted.entries()) {
      await new Promise((written) =>
        to.write(bytes.subarray(begin, sorted[n + 1] ?? bytes.length), written),
      );
    }
  };
  expect(await readAll((id, to) => void answer(id, to))).toEqual(AS_READ);
});

test('a page without entries is not the end if the server has more', async () => {
  const pages = await readAll((id, to) =>
    to.write(id % 2 === 1 ? done(id, 0, 'more') : twoPages(id)),
  );
  expect(pages).toEqual([[], AS_READ[1]]);
});

test.each<[string, (id: number) => Buffer, string]>([
  ['a refusal', (id) => done(id, 4), 'the server returned 4: no more'],
  ['a referral', (id) => message(id, ber(0x73, octets('ldap://x'))), 'on another server'],
  ['an answer to something else', (id) => done(id + 1, 0), 'other than an answer to a search'],
  ['a notice that it ends', () => message(0, ber(0x78)), 'other than an answer to a search'],
  [
    'data that is not LDAP',
    () => Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'),
    'other than an answer to a search',
  ],
  ['a length without end', () => Buffer.of(0x30, 0x80, 0, 0), 'other than an answer to a search'],
  ['a part that is longer than the whole', (id) => message(id, 0x65, 0x20), 'other than an answer'],
])('%s is an error', async (_, answer, said) => {
  await expect(readAll((id, to) => to.write(answer(id)))).rejects.toThrow(said);
});

test('a refusal has its code', async () => {
  await expect(readAll((id, to) => to.write(done(id, 50)))).rejects.toMatchObject({ code: 50 });
});

test('a connection that ends in the middle is an error', async () => {
  const cut = (id: number, to: Socket) => to.end(twoPages(id).subarray(0, 60));
  await expect(readAll(cut)).rejects.toThrow('the connection was lost');
});

test('a server that is silent for too long is an error', async () => {
  const stall = (id: number, to: Socket) => to.write(twoPages(id).subarray(0, 60));
  await expect(readAll(stall, 100)).rejects.toThrow('no answer within 100 ms');
});

const MEGABYTES = 'x'.repeat(17 << 20);

test('an oversized entry is read without its large attributes, and what follows is read normally', async () => {
  const large = (id: number) =>
    entry(id, 'uid=large', {
      ...{ cn: ['before'], mail: [MEGABYTES], ObjectClass: ['person'] },
      ...{ uid: ['a', 'b'], description: [LARGE], sn: ['after'] },
    });
  const pages = await readAll((id, to) =>
    to.write(Buffer.concat([large(id), entry(id, 'uid=c', { uid: ['c'] }), done(id, 0)])),
  );
  const kept = ['cn', ['before'], 'uid', ['a', 'b'], 'sn', ['after']];
  expect(pages).toEqual([[['uid=large', ...kept, 'objectClass', ['oversized']], AS_READ[1]![0]]]);
});

test.each([65_536, 65_537, 1_000_003, 40_000_000])(
  'an oversized entry may come in any pieces: %d bytes',
  (piece) => {
    const attributes = { mail: [MEGABYTES], uid: ['a'], info: [LARGE.slice(0, 60_000)] };
    const bytes = Buffer.concat([entry(7, 'uid=l', attributes), done(7, 0)]);
    const sizes: number[] = [];
    const cut = cutMessages((_, at, end) => void sizes.push(end - at));
    for (let at = 0; at < bytes.length; at += piece) cut(bytes.subarray(at, at + piece));
    expect(sizes).toEqual([expect.any(Number), done(7, 0).length]);
    expect(sizes[0]).toBeGreaterThan(60_000);
    expect(sizes[0]).toBeLessThan(61_000);
  },
);

test.each<[string, Buffer]>([
  [
    'a message that is not an entry',
    message(7, ber(0x65, ber(0x0a, 0), octets(MEGABYTES), octets(''))),
  ],
  ['an entry with an endless DN', entry(7, MEGABYTES, {})],
  [
    'an entry with more after it',
    message(7, ber(0x64, octets('uid=l'), ber(0x30)), octets(MEGABYTES)),
  ],
  [
    'an attribute that is longer than its entry',
    message(
      7,
      ber(0x64, octets('uid=l'), ber(0x30, Buffer.of(0x30, 0x84, 0x7f, 0, 0, 0), MEGABYTES)),
    ),
  ],
])('%s that is oversized is an error', (_, bytes) => {
  expect(() => cutMessages(() => {})(bytes)).toThrow('other than an answer to a search');
});
