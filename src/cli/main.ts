/** The command line. Each command has a file of its own, which is loaded when the command is called. */
import { Command, CommanderError, Help } from 'commander';
import { CONFIG_FILE } from '../shared/config-path.ts';
import { describeExamples, describeExits, endCommand } from './exit.ts';

type Define = (command: Command) => void;

/** Commander's code for a request for the version. */
const VERSION = 'commander.version';

const COMMANDS: readonly { name: string; summary: string; load(): Promise<Define> }[] = [
  {
    name: 'work',
    summary: 'run the workers: all roles, or some',
    load: async () => (await import('./commands/work.ts')).defineWork,
  },
  {
    name: 'submit',
    summary: 'sign a request and queue it; with --wait, follow it to its end',
    load: async () => (await import('./commands/submit.ts')).defineSubmit,
  },
  {
    name: 'status',
    summary: 'show what is applied, behind or failing, and why',
    load: async () => (await import('./commands/status.ts')).defineStatus,
  },
  {
    name: 'requests',
    summary: 'list requests that wait for an admin, and the verdict on each request',
    load: async () => (await import('./commands/requests.ts')).defineRequests,
  },
  {
    name: 'restore',
    summary: 'restore a deleted tool from its archives',
    load: async () => (await import('./commands/restore.ts')).defineRestore,
  },
  {
    name: 'survey',
    summary: 'show what has drifted, in groups, worst first',
    load: async () => (await import('./commands/drift/survey.ts')).defineSurvey,
  },
  {
    name: 'plan',
    summary: 'show each step that would be taken; change nothing',
    load: async () => (await import('./commands/drift/plan.ts')).definePlan,
  },
  {
    name: 'repair',
    summary: 'take exactly the steps that `plan` shows',
    load: async () => (await import('./commands/drift/repair.ts')).defineRepair,
  },
  {
    name: 'explain',
    summary: 'show all that is known about an account, a number, a path or a key',
    load: async () => (await import('./commands/explain.ts')).defineExplain,
  },
  {
    name: 'list',
    summary: 'list people, tools, keys, or what Chamberlain does not manage (`list unmanaged`)',
    load: async () => (await import('./commands/list.ts')).defineList,
  },
  {
    name: 'adopt',
    summary: 'take over accounts and tools that `list unmanaged` shows',
    load: async () => (await import('./commands/unmanaged/adopt.ts')).defineAdopt,
  },
  {
    name: 'ignore',
    summary: 'keep an unmanaged thing as it is, and record why',
    load: async () => (await import('./commands/unmanaged/ignore.ts')).defineIgnore,
  },
  {
    name: 'audit',
    summary: 'show who requested what; `audit verify` proves that nothing was changed',
    load: async () => (await import('./commands/audit/audit.ts')).defineAudit,
  },
  {
    name: 'doctor',
    summary: 'check every server, access right and clock that this realm depends on',
    load: async () => (await import('./commands/doctor.ts')).defineDoctor,
  },
  {
    name: 'sweep',
    summary: 'show the last sweeps; `sweep release` lets a held one continue',
    load: async () => (await import('./commands/drift/sweep.ts')).defineSweep,
  },
  {
    name: 'freeze',
    summary: 'stop all verdicts and all work until `thaw`',
    load: async () => (await import('./commands/freeze.ts')).defineFreeze,
  },
  {
    name: 'thaw',
    summary: 'end a freeze',
    load: async () => (await import('./commands/thaw.ts')).defineThaw,
  },
  {
    name: 'secret',
    summary: 'replace a password or a key while it is in use: `secret rotate NAME`',
    load: async () => (await import('./commands/secret.ts')).defineSecret,
  },
  {
    name: 'schema',
    summary: 'list the kinds of request, or print their JSON Schemas',
    load: async () => (await import('./commands/schema.ts')).defineSchema,
  },
  {
    name: 'key',
    summary: 'check a public SSH key as somebody has pasted it',
    load: async () => (await import('./commands/key-check.ts')).defineKey,
  },
  {
    name: 'migrate',
    summary: 'bring the database schema to this version',
    load: async () => (await import('./commands/migrate.ts')).defineMigrate,
  },
  {
    name: 'prepare',
    summary: 'prepare the areas of homes, once, on the file server',
    load: async () => (await import('./commands/prepare.ts')).definePrepare,
  },
  {
    name: 'bootstrap',
    summary: 'create the first admin, once, in an empty realm',
    load: async () => (await import('./commands/bootstrap.ts')).defineBootstrap,
  },
  {
    name: 'import',
    summary: 'import a running platform from its directory',
    load: async () => (await import('./commands/unmanaged/import.ts')).defineImport,
  },
  {
    name: 'backup',
    summary: 'make an encrypted set of backups; `--verify` proves that one can be restored',
    load: async () => (await import('./commands/backup.ts')).defineBackup,
  },
  {
    name: 'recover',
    summary: 'make it safe to continue after a server was restored from a backup',
    load: async () => (await import('./commands/recover.ts')).defineRecover,
  },
];

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
    .addHelpText(
      'after',
      describeExamples(
        'submit tool.create --name bridgebot --title "A bridge" --wait',
        'status tools.bridgebot',
        'plan --all',
      ) +
        `\n${describeExits({})}\n  3, 4 and 5 have the meaning that the --help of the command gives\n
Environment:
  CHAMBERLAIN_CONFIG     the configuration file, unless --config is given
  CHAMBERLAIN_ADMIN_KEY  the key that \`submit\` signs with
  CHAMBERLAIN_LOG_LEVEL  debug, info (default), warn or error
  CHAMBERLAIN_DEBUG      if set, an error is printed with its stack trace
  NO_COLOR               if set, the output has no colour`,
    );
  for (const { name, summary } of COMMANDS) program.command(name).summary(summary);
  program.hook('preSubcommand', async (_, command) => {
    const entry = COMMANDS.find(({ name }) => name === command.name());
    if (entry !== undefined) (await entry.load())(command);
  });
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
