/** What to try when the demo has left everything running. */
import { relative } from 'node:path';
import { paint, print } from '../../src/cli/table.ts';
import type { Work } from './work.ts';

/** Prints commands that work as pasted, from the project's folder. */
export function sayWhatToTry(dir: string, work: Work): void {
  const short = relative(process.cwd(), dir);
  const option = short === '.stack' ? '' : ` --dir ${short.startsWith('..') ? dir : short || '.'}`;
  // what only root may read, the caller of sudo may not either
  const sudo = process.env['SUDO_USER'] === undefined ? '' : 'sudo ';
  print(`\n${paint('bold', 'It is all still running. Try, in this folder:')}`);
  print(
    `
  # where everything is, for this shell
  eval "$(dev/stack env${option})"

  # what there is
  dev/chamberlain status
  dev/chamberlain status tools.bridgebot
  dev/chamberlain requests

  # a tool of your own, and a login with its credentials
  dev/chamberlain submit tool.create --name mybot --title "My first tool" --maintainers alice --wait
  ${sudo}mariadb --defaults-file=$DATA_ROOT/data/project/mybot/replica.my.cnf \\
      --socket=$MARIADB_TOOLS_SOCKET -e 'select current_user()'

  # the directory, as its administrator sees it
  ${sudo}ldapsearch -LLL -x -H $LDAP_URI -D $LDAP_ADMIN_DN -y $LDAP_ADMIN_PASSWORD_FILE \\
      -b $LDAP_BASE '(cn=tools.mybot)'

  # someone loosens a mode: it is seen, and nothing is touched
  ${sudo}chmod 0777 $DATA_ROOT/data/project/mybot
  dev/chamberlain plan mybot

  # the next thing that changes this home also puts that right
  dev/chamberlain submit credentials.rotate --tool mybot --wait
  dev/chamberlain plan mybot

  # what the workers say
  ${sudo}tail ${work.logFile}

  # the end of it
  ${sudo}kill ${work.pid}
  dev/stack down${option} --purge`.replaceAll(/^ {2}#.*$/gm, (line) => paint('dim', line)),
  );
}
