/** What to try when the demo has left everything running. */
import { relative } from 'node:path';
import { paint, print } from '../../src/bin/table.ts';
import type { Work } from './work.ts';

/** Prints commands that work as pasted, from the project's folder. */
export function sayWhatToTry(dir: string, work: Work): void {
  const short = relative(process.cwd(), dir) || '.';
  const option = short === '.stack' ? '' : ` --dir ${short.startsWith('..') ? dir : short}`;
  const sudo = process.getuid?.() === 0 && process.env['SUDO_USER'] !== undefined ? 'sudo ' : '';
  const say = (title: string, ...commands: string[]) => {
    print(`\n  ${paint('dim', `# ${title}`)}`);
    for (const command of commands) print(`  ${command}`);
  };
  print(`\n${paint('bold', 'It is all still running. Try, in this folder:')}`);
  say('where everything is, for this shell', `eval "$(dev/stack env${option})"`);
  say(
    'what there is',
    'dev/chamberlain status',
    'dev/chamberlain status tools.bridgebot',
    'dev/chamberlain requests',
  );
  say(
    'a tool of your own, and a login with its credentials',
    'dev/chamberlain submit tool.create --name mybot --title "My first tool" --maintainers alice --wait',
    `${sudo}mariadb --defaults-file=$DATA_ROOT/data/project/mybot/replica.my.cnf \\`,
    `    --socket=$MARIADB_TOOLS_SOCKET -e 'select current_user()'`,
  );
  say(
    'something that the admin did not ask for, found and not touched',
    `${sudo}chmod 0777 $DATA_ROOT/data/project/mybot`,
    'dev/chamberlain plan mybot',
  );
  say(
    'put right, as anything that changes mybot puts it right',
    'dev/chamberlain submit credentials.rotate --tool mybot --wait',
    'dev/chamberlain plan mybot',
  );
  say(
    'the directory, as its administrator',
    `${sudo}ldapsearch -LLL -x -H $LDAP_URI -D $LDAP_ADMIN_DN -y $LDAP_ADMIN_PASSWORD_FILE \\`,
    `    -b $LDAP_BASE '(cn=tools.mybot)'`,
  );
  say('what the workers say', `${sudo}tail -f ${work.logFile}`);
  say('the end of it', `${sudo}kill ${work.pid}; dev/stack down${option} --purge`);
}
