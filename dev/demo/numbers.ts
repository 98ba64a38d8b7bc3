import { searchDirectory, type StackEnvironment } from './outside.ts';

/** The people and tools at the end of the scenario, by the numbers that the directory gives them. */
export interface Numbers {
  alice: number;
  bob: number;
  carol: number;
  dave: number;
  bridgebot: number;
  archivebot: number;
}

/** Looks up the numbers that requests were given, so that nothing below has to name one. */
export async function readNumbers(env: StackEnvironment): Promise<Numbers> {
  const number = async (uid: string): Promise<number> => {
    const [entry] = await searchDirectory(env, `(uid=${uid})`, 'uidNumber');
    const text = entry?.lines.find((line) => line.startsWith('uidNumber: '))?.slice(11);
    if (text === undefined) throw new Error(`the directory has no account ${uid}`);
    return Number(text);
  };
  return {
    alice: await number('alice'),
    bob: await number('bob'),
    carol: await number('carol'),
    dave: await number('dave'),
    bridgebot: await number('tools.bridgebot'),
    archivebot: await number('tools.archivebot'),
  };
}
