/** Which manual pages the Debian packages have, and where their texts come from. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import type { Command } from 'commander';
import type { HelpText, Page } from './manual.ts';

/** What `--help` prints of a command, without starting it. */
function helpOf(command: Command): string {
  let text = '';
  command.configureOutput({ writeOut: (part) => void (text += part) });
  command.outputHelp();
  return text;
}

function helpsOf(command: Command, words: string): HelpText[] {
  return [
    { command: words, text: helpOf(command) },
    ...command.commands.flatMap((each) => helpsOf(each, `${words} ${each.name()}`)),
  ];
}

/** chamberlain(1), and a page for each of its commands, as git has them. */
export function commandPages(program: Command): Page[] {
  const pages = program.commands.map((command): Page => {
    const name = `chamberlain-${command.name()}`;
    const helps = helpsOf(command, `chamberlain ${command.name()}`);
    return {
      ...{ name, section: 1, summary: command.summary().replaceAll('`', ''), helps },
      seeAlso: ['chamberlain(1)', 'chamberlain.yaml(5)'],
    };
  });
  const main: Page = {
    ...{ name: 'chamberlain', section: 1 },
    summary: 'manage the accounts of a shared hosting platform',
    helps: [{ command: 'chamberlain', text: helpOf(program) }],
    seeAlso: [...pages.map(({ name }) => `${name}(1)`), 'chamberlain.yaml(5)'],
  };
  return [main, ...pages];
}

/** Without its example, which docs/install.md contains. */
export const CONFIG_PAGE = {
  name: 'chamberlain.yaml',
  section: 5,
  summary: 'the configuration of Chamberlain',
  about:
    'The configuration is /etc/chamberlain/config.yaml, or the file that --config or CHAMBERLAIN_CONFIG names. Every ' +
    'command refuses a file that contains a setting it does not know. The example shows every setting. A comment ' +
    'that ends in “(default)” means that the setting may be left out, and then has the value shown.',
  seeAlso: ['chamberlain(1)', '/usr/share/doc/chamberlain/install.md'],
} as const;

const SHELL_HELP = `Usage: disabledtoolshell

The login shell of a tool that is disabled. It prints why the tool is disabled, and ends with 1.
`;

/** The programs of a login host. */
export function loginHostPages(project: string): Page[] {
  const run = (program: string, args: string[]): string =>
    execFileSync(program, args, { cwd: project, encoding: 'utf8' });
  const node = (path: string, ...words: string[]): string =>
    run(process.execPath, [
      '--disable-warning=ExperimentalWarning',
      join(project, path),
      ...words,
      '--help',
    ]);
  const agent = 'src/login-host/programs/keys-agent.ts';
  const help = node(agent);
  const [, list = ''] = /^Commands:\n((?: {2}.*\n)+)/mu.exec(help) ?? [];
  const subcommands = [...list.matchAll(/^ {2}([a-z-]+)/gmu)].map(([, name = '']) => name);
  const page = (name: string, section: 1 | 8, summary: string, text: string): Page => ({
    ...{ name, section, summary, helps: [{ command: name, text }] },
    seeAlso: ALL.filter((each) => !each.startsWith(`${name}(`)),
  });
  return [
    {
      ...page(
        'keys-agent',
        8,
        'follow the directory on a login host, and show how current it is',
        help,
      ),
      helps: [
        { command: 'keys-agent', text: help },
        ...subcommands.map((name) => ({ command: `keys-agent ${name}`, text: node(agent, name) })),
      ],
    },
    page(
      'chamberlain-login-host',
      8,
      'make this machine a login host',
      node('deploy/login-host/install.ts')
        .replaceAll('/opt/chamberlain/deploy/login-host/install', 'chamberlain-login-host')
        .replaceAll(/^(Usage:|      ) install\b/gmu, '$1 chamberlain-login-host'),
    ),
    page('become', 1, 'become a tool', run('sh', ['deploy/login-host/become', '--help'])),
    page(
      'take',
      1,
      'become the owner of files that others have put into your directory',
      node('src/login-host/programs/take.ts'),
    ),
    page(
      'chamberlain-whoami',
      1,
      'show who you are to this login host',
      node('src/login-host/programs/whoami.ts'),
    ),
    page('disabledtoolshell', 1, 'the login shell of a disabled tool', SHELL_HELP),
  ];
}

const ALL = [
  ...['become(1)', 'chamberlain-whoami(1)', 'take(1)'],
  ...['chamberlain-login-host(8)', 'keys-agent(8)'],
];
