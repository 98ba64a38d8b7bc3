/** Proves with stat and getfacl what the requests have created on the file server. */
import { join } from 'node:path';
import type { Numbers } from './numbers.ts';
import { output, type StackEnvironment } from './outside.ts';
import { attempt, chapter, checkSame } from './output.ts';

/** Checks type, mode and owner of every path that an account must have. */
export async function proveHomes(env: StackEnvironment, numbers: Numbers): Promise<void> {
  const root = env['DATA_ROOT'] ?? '';
  chapter('The homes, as stat shows them', root);
  const paths: [path: string, wanted: string][] = [
    ...toolPaths('bridgebot', numbers.bridgebot),
    ...toolPaths('archivebot', numbers.archivebot),
    ['home/alice', `directory 700 ${numbers.alice}:500`],
    ['home/alice/replica.my.cnf', `regular file 440 ${numbers.alice}:${numbers.alice}`],
  ];
  await attempt('stat', async () => {
    const files = paths.map(([path]) => join(root, path));
    const seen = (await output('stat', ['-c', '%F %a %u:%g', ...files])).trim().split('\n');
    for (const [index, [path, wanted]] of paths.entries()) {
      checkSame(`/${path}`, seen[index] ?? '', wanted);
    }
  });
  const shared = 'alice can change what bob writes in bridgebot';
  await attempt(shared, async () => {
    const acl = await output('getfacl', ['-p', '-c', '-d', join(root, 'data/project/bridgebot')]);
    const group = /^(?:default:)?group::(\S+)/m.exec(acl)?.[1] ?? 'no default ACL';
    checkSame(shared, `new files: group ${group}`, 'new files: group rwx');
  });
  const none = 'carol, who was refused, has no home';
  await attempt(none, async () => {
    const found = await output('find', [join(root, 'home'), '-maxdepth', '1', '-name', 'carol']);
    checkSame(none, found.trim() || 'none', 'none');
  });
}

function toolPaths(name: string, id: number): [path: string, wanted: string][] {
  const home = `data/project/${name}`;
  return [
    [home, `directory 2775 ${id}:${id}`],
    [`${home}/public_html`, `directory 2775 ${id}:${id}`],
    [`${home}/logs`, `directory 2775 ${id}:${id}`],
    [`${home}/replica.my.cnf`, `regular file 440 ${id}:${id}`],
  ];
}
