/** The command line. Each command has a file of its own, which is loaded when the command is called. */
import { CommanderError, Help } from 'commander';
import { Command, CONFIG_FILE } from './command.ts';
import { endCommand } from './exit.ts';

/** Commander's code for a request for the version. */
const VERSION = 'commander.version';

/** The commands, in the order of the help. */
const SUMMARIES = {
  work: 'run the workers: all roles, or some',
  submit: 'sign a request and queue it; with --wait, follow it to its end',
  status: 'show what is applied, behind or failing, and why',
  requests: 'list requests that wait for an admin, and the verdict on each request',
  restore: 'restore a deleted tool from its archives',
  survey: 'show what has drifted, in groups, worst first',
  plan: 'show each step that would be taken; change nothing',
  repair: 'take exactly the steps that `plan` shows',
  explain: 'show all that is known about an account, a number, a path or a key',
  list: 'list people, tools, keys, or what Chamberlain does not manage (`list unmanaged`)',
  adopt: 'take over accounts and tools that `list unmanaged` shows',
  ignore: 'keep an unmanaged thing as it is, and record why',
  audit: 'show who requested what; `audit verify` finds rows that were changed',
  doctor: 'check every server, access right and clock that this realm depends on',
  sweep: 'show the last sweeps; `sweep release` lets a held one continue',
  freeze: 'stop all verdicts and all work until `thaw`',
  thaw: 'end a freeze',
  reload: 'make every process apply changes of the configuration, without a restart',
  secret: 'replace a password or a key while it is in use: `secret rotate NAME`',
  'redis-users': 'make the users of Redis that portals and programs need',
  join: 'answer the join request of a new machine',
  host: 'list the hosts that have joined, or end the access of one',
  schema: 'list the kinds of request, or print their JSON Schemas',
  key: 'check a public SSH key as somebody has pasted it',
  'admin-key': "make an admin's own key, or take one from an ssh-agent: `admin-key new`",
  setup: 'make a realm on this machine: its servers, its first admin and its workers',
  migrate: 'bring the database schema to this version',
  prepare: 'prepare the areas of homes, once, on the file server',
  bootstrap: 'create the first admin, or approve a request that no other admin can',
  import: 'import a running platform from its directory',
  backup: 'make an encrypted set of backups; `--verify` proves that one can be restored',
  recover: 'make it safe to continue after a server was restored from a backup',
};

type Name = keyof typeof SUMMARIES;

const FILES: Record<Name, () => Promise<{ define: (command: Command) => void }>> = {
  work: () => import('./commands/work.ts'),
  submit: () => import('./commands/submit.ts'),
  status: () => import('./commands/status.ts'),
  requests: () => import('./commands/requests.ts'),
  restore: () => import('./commands/restore.ts'),
  survey: () => import('./commands/drift/survey.ts'),
  plan: () => import('./commands/drift/plan.ts'),
  repair: () => import('./commands/drift/repair.ts'),
  explain: () => import('./commands/explain.ts'),
  list: () => import('./commands/list.ts'),
  adopt: () => import('./commands/unmanaged/adopt.ts'),
  ignore: () => import('./commands/unmanaged/ignore.ts'),
  audit: () => import('./commands/audit/audit.ts'),
  doctor: () => import('./commands/doctor.ts'),
  sweep: () => import('./commands/drift/sweep.ts'),
  freeze: () => import('./commands/freeze.ts'),
  thaw: () => import('./commands/thaw.ts'),
  reload: () => import('./commands/reload.ts'),
  secret: () => import('./commands/secret.ts'),
  'redis-users': () => import('./commands/redis-users.ts'),
  join: () => import('./commands/join.ts'),
  host: () => import('./commands/host.ts'),
  schema: () => import('./commands/schema.ts'),
  key: () => import('./commands/key-check.ts'),
  'admin-key': () => import('./commands/admin-key.ts'),
  setup: () => import('./commands/setup.ts'),
  migrate: () => import('./commands/migrate.ts'),
  prepare: () => import('./commands/prepare.ts'),
  bootstrap: () => import('./commands/bootstrap.ts'),
  import: () => import('./commands/unmanaged/import.ts'),
  backup: () => import('./commands/backup.ts'),
  recover: () => import('./commands/recover.ts'),
};

function makeProgram(): Command {
  const program = new Command('chamberlain')
    .description(
      'Manages the accounts of a shared hosting platform: people, tools, and what each needs.',
    )
    .option(
      '--config <file>',
      `the configuration file (default: $CHAMBERLAIN_CONFIG or ${CONFIG_FILE})`,
    )
    .option('--json', 'print JSON for programs instead of tables for people')
    .option('--version', 'print the version, and the last migration')
    .on('option:version', () => {
      throw new CommanderError(0, VERSION, '');
    })
    .helpOption('-h, --help', 'print this text; for a command: `chamberlain COMMAND --help`')
    .helpCommand(false)
    .configureHelp({
      showGlobalOptions: true,
      helpWidth: 100,
      // --version belongs to the program, not to a command
      visibleGlobalOptions(this: Help, of) {
        const options = Help.prototype.visibleGlobalOptions.call(this, of);
        return options.filter(({ long }) => long !== '--version');
      },
    })
    .configureOutput({ outputError: () => {} }) // main reports errors
    .exitOverride()
    .examples(
      'submit tool.create --name bridgebot --title "A bridge" --wait',
      'status tools.bridgebot',
      'plan --all',
    )
    .exits()
    .addHelpText(
      'after',
      `  3, 4 and 5 have the meaning that the --help of the command gives\n
Environment:
  CHAMBERLAIN_CONFIG     the configuration file, unless --config is given
  CHAMBERLAIN_ADMIN_KEY  the file of the key with which \`submit\`, \`restore\` and \`audit close\` sign
  CHAMBERLAIN_LOG_LEVEL  debug, info (default), warn or error
  CHAMBERLAIN_DEBUG      if set, an error is printed with its stack trace
  NO_COLOR               if set, the output has no colour`,
    );
  for (const [name, summary] of Object.entries(SUMMARIES)) program.command(name).summary(summary);
  program.hook('preSubcommand', async (_, command) => {
    (await FILES[command.name() as Name]()).define(command as Command);
  });
  return program;
}

/** The whole command line with the options of each command, from which its manual and its completions are made. */
export async function wholeProgram(): Promise<Command> {
  const program = makeProgram();
  for (const command of program.commands) {
    (await FILES[command.name() as Name]()).define(command as Command);
  }
  return program;
}

/** Runs a command line. Never throws: a failure is reported on standard error. */
export async function main(args: readonly string[]): Promise<void> {
  const [first, ...rest] = args;
  try {
    await makeProgram().parseAsync(first === 'help' ? [...rest, '--help'] : args, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError) || error.code !== VERSION) return endCommand(error);
    (await import('./version.ts')).printVersion({ json: args.includes('--json') });
  }
}
