/** What to try after the demo, when everything is still running. */
import { relative } from 'node:path';
import { paint, print } from '../../src/cli/table.ts';
import type { Work } from './work.ts';

/** Prints commands that work when pasted, in the project's folder. */
export function sayWhatToTry(dir: string, work: Work): void {
  const short = relative(process.cwd(), dir);
  const option = short === '.stack' ? '' : ` --dir ${short.startsWith('..') ? dir : short || '.'}`;
  // a file that only root may read is closed to the caller of sudo, too
  const sudo = process.env['SUDO_USER'] === undefined ? '' : 'sudo ';
  print(`\n${paint('bold', 'It is all still running. Try, in this folder:')}`);
  print(
    `
  # where everything is, for this shell
  eval "$(dev/stack env${option})"

  # what exists
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

  # somebody loosens a mode: the plan shows it, and changes nothing
  ${sudo}chmod 0777 $DATA_ROOT/data/project/mybot
  dev/chamberlain plan mybot

  # the next change of this home also corrects that
  dev/chamberlain submit credentials.rotate --tool mybot --wait
  dev/chamberlain plan mybot

  # what the workers log
  ${sudo}tail ${work.logFile}

  # stop everything, and delete the data
  ${sudo}kill ${work.pid}
  dev/stack down${option} --purge`.replaceAll(/^ {2}#.*$/gm, (line) => paint('dim', line)),
  );
}
