/** The command line. Thin: each command stands in a file of its own, read when it is asked for. */
import { Command, CommanderError, Help } from 'commander';
import { CONFIG_FILE } from '../shared/config-path.ts';
import { describeExamples, describeExits, endCommand } from './exit.ts';

type Define = (command: Command) => void;

/** The code by which commander says that it was asked for the version. */
const VERSION = 'commander.version';

const COMMANDS: readonly { name: string; summary: string; load(): Promise<Define> }[] = [
  {
    name: 'work',
    summary: 'work on the queues: all roles, or some',
    load: async () => (await import('./commands/work.ts')).defineWork,
  },
  {
    name: 'submit',
    summary: 'sign a request and put it into the queue; follow it with --wait',
    load: async () => (await import('./commands/submit.ts')).defineSubmit,
  },
  {
    name: 'status',
    summary: 'what is wanted, applied, behind and failing, and why',
    load: async () => (await import('./commands/status.ts')).defineStatus,
  },
  {
    name: 'requests',
    summary: "what waits for an admin's word, and the verdict on each request",
    load: async () => (await import('./commands/requests.ts')).defineRequests,
  },
  {
    name: 'restore',
    summary: 'bring a deleted tool back from its archives',
    load: async () => (await import('./commands/restore.ts')).defineRestore,
  },
  {
    name: 'survey',
    summary: 'what has drifted, grouped for reading, worst first',
    load: async () => (await import('./commands/survey.ts')).defineSurvey,
  },
  {
    name: 'plan',
    summary: 'ask the roles what differs from what is wanted; nothing is touched',
    load: async () => (await import('./commands/plan.ts')).definePlan,
  },
  {
    name: 'repair',
    summary: 'do what `plan` shows, exactly that',
    load: async () => (await import('./commands/repair.ts')).defineRepair,
  },
  {
    name: 'explain',
    summary: 'all that is known about an account, a number, a path or a key',
    load: async () => (await import('./commands/explain.ts')).defineExplain,
  },
  {
    name: 'list',
    summary: 'people, tools, keys; what is in our places and is not ours: `list unmanaged`',
    load: async () => (await import('./commands/list.ts')).defineList,
  },
  {
    name: 'adopt',
    summary: 'take over accounts and tools that `list unmanaged` shows',
    load: async () => (await import('./commands/adopt.ts')).defineAdopt,
  },
  {
    name: 'ignore',
    summary: 'leave what `list unmanaged` shows as it is, for a reason',
    load: async () => (await import('./commands/ignore.ts')).defineIgnore,
  },
  {
    name: 'audit',
    summary: 'who asked for what; `audit verify` proves that nothing was changed',
    load: async () => (await import('./commands/audit.ts')).defineAudit,
  },
  {
    name: 'doctor',
    summary: 'whether everything that it stands on is right',
    load: async () => (await import('./commands/doctor.ts')).defineDoctor,
  },
  {
    name: 'sweep',
    summary: 'the last sweeps; `sweep release` lets one that is held go on',
    load: async () => (await import('./commands/sweep.ts')).defineSweep,
  },
  {
    name: 'freeze',
    summary: 'no verdict is given and no worker acts, until thawed',
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
    summary: 'the kinds of request, and the JSON Schema of each',
    load: async () => (await import('./commands/schema.ts')).defineSchema,
  },
  {
    name: 'key',
    summary: 'look at a public SSH key as a person has pasted it',
    load: async () => (await import('./commands/key-check.ts')).defineKey,
  },
  {
    name: 'migrate',
    summary: 'bring the database to this version',
    load: async () => (await import('./commands/migrate.ts')).defineMigrate,
  },
  {
    name: 'prepare',
    summary: 'make the areas of homes ready, once, on the file server',
    load: async () => (await import('./commands/prepare.ts')).definePrepare,
  },
  {
    name: 'bootstrap',
    summary: 'make the first admin, once, on an empty realm',
    load: async () => (await import('./commands/bootstrap.ts')).defineBootstrap,
  },
  {
    name: 'import',
    summary: 'take over a running platform from its directory',
    load: async () => (await import('./commands/import.ts')).defineImport,
  },
  {
    name: 'backup',
    summary: 'make a set of backups, encrypted; `--verify` proves that it can be restored',
    load: async () => (await import('./commands/backup.ts')).defineBackup,
  },
  {
    name: 'recover',
    summary: 'make it safe to go on after a server came back from a backup',
    load: async () => (await import('./commands/recover.ts')).defineRecover,
  },
];

function makeProgram(): Command {
  const program = new Command('chamberlain')
    .description(
      'Keeps the accounts of a shared hosting platform: people, tools, and what each needs.',
    )
    .option('--config <file>', `the configuration (default: $CHAMBERLAIN_CONFIG or ${CONFIG_FILE})`)
    .option('--json', 'print JSON for programs instead of tables for people')
    .option('--version', 'print the version, and the last migration')
    .on('option:version', () => {
      throw new CommanderError(0, VERSION, '');
    })
    .helpOption('-h, --help', 'this text; `chamberlain COMMAND --help` for a command')
    .helpCommand(false)
    .configureHelp({
      showGlobalOptions: true,
      helpWidth: 100,
      // asked of the program, not of a command
      visibleGlobalOptions(this: Help, of) {
        const options = Help.prototype.visibleGlobalOptions.call(this, of);
        return options.filter(({ long }) => long !== '--version');
      },
    })
    .configureOutput({ outputError: () => {} }) // main says it
    .exitOverride()
    .addHelpText(
      'after',
      describeExamples(
        'submit tool.create --name bridgebot --title "A bridge" --wait',
        'status tools.bridgebot',
        'plan --all',
      ) +
        `\n${describeExits({})}\n  3, 4, 5 where the command's own --help says so\n
Variables:
  CHAMBERLAIN_CONFIG     the configuration, where --config is not given
  CHAMBERLAIN_ADMIN_KEY  the key that \`submit\` signs with
  CHAMBERLAIN_LOG_LEVEL  debug, info (default), warn, error
  CHAMBERLAIN_DEBUG      set: an error shows where it came from
  NO_COLOR               set: no colour`,
    );
  for (const { name, summary } of COMMANDS) program.command(name).summary(summary);
  program.hook('preSubcommand', async (_, command) => {
    const entry = COMMANDS.find(({ name }) => name === command.name());
    if (entry !== undefined) (await entry.load())(command);
  });
  return program;
}

/** Does what a command line asks for. It throws nothing: what fails is said on standard error. */
export async function main(args: readonly string[]): Promise<void> {
  const [first, ...rest] = args;
  try {
    await makeProgram().parseAsync(first === 'help' ? [...rest, '--help'] : args, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError) || error.code !== VERSION) return endCommand(error);
    (await import('./version.ts')).printVersion({ json: args.includes('--json') });
  }
}
