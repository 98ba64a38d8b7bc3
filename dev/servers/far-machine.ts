/**
 * A machine that is reached over a cable, for what must vanish from the network without a word: a network namespace
 * of this one, and a pair of interfaces. Files, processes and unix sockets are shared; 127.0.0.1 is its own.
 */
import { run } from './processes.ts';

export interface FarMachine {
  /** where it reaches this machine, and what a server here must listen on */
  readonly here: string;
  /** The words before a command that runs it there, in place of this process. */
  readonly prefix: readonly string[];
  /** From now on nothing comes from there, and nothing that is sent there is answered or refused. */
  vanish(): Promise<void>;
  /** Ends it. What runs there must have ended. */
  close(): Promise<void>;
}

let made = 0;

/** Makes one; root alone can. */
export async function openFarMachine(): Promise<FarMachine> {
  const number = (process.pid * 8 + made++) % 2 ** 14;
  const [name, ours, theirs] = [`chamberlain-${number}`, `cb${number}a`, `cb${number}b`];
  // for benchmarks of networks (RFC 2544): nobody's
  const address = (host: number) => `198.18.${number >> 6}.${((number & 63) << 2) + host}`;
  const [here, there] = [address(1), address(2)];
  const ip = (...words: string[]) => run('/usr/sbin/ip', words);
  await ip('netns', 'add', name);
  await ip('link', 'add', ours, 'type', 'veth', 'peer', 'name', theirs, 'netns', name);
  await ip('address', 'add', `${here}/30`, 'dev', ours);
  await ip('link', 'set', ours, 'up');
  await ip('-n', name, 'address', 'add', `${there}/30`, 'dev', theirs);
  await ip('-n', name, 'link', 'set', theirs, 'up');
  return {
    here,
    prefix: ['/usr/sbin/ip', 'netns', 'exec', name],
    async vanish() {
      const link = JSON.parse(await ip('-j', '-n', name, 'link', 'show', theirs)) as [
        { address: string },
      ];
      // as behind a router: that it does not answer is not seen on the cable
      await ip(
        ...['neighbour', 'replace', there, 'lladdr', link[0].address],
        ...['dev', ours, 'nud', 'permanent'],
      );
      // what is for an address that it has not is dropped in silence
      await ip('-n', name, 'address', 'flush', 'dev', theirs);
    },
    async close() {
      await ip('netns', 'delete', name);
    },
  };
}
