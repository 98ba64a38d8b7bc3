/** The answers that `chamberlain setup` needs: from a file, the configuration or the terminal. */
import { lookup } from 'node:dns/promises';
import { existsSync } from 'node:fs';
import {
  answerIn,
  type Answers,
  answersFile,
  completeAnswers,
  type Known,
  knownAnswers,
  type Question,
  QUESTIONS,
} from '../setup/answers.ts';
import { readConfig } from '../setup/places.ts';
import { loadYaml } from '../shared/config-values.ts';
import { cannotRead, ChamberlainError } from '../shared/errors.ts';
import { type Command, CONFIG_FILE } from './command.ts';
import { askEach, canAsk, whyNotAsked } from './confirm.ts';

/** Throws USAGE, naming the answers that are missing, if there is no terminal to ask on. */
export async function readAnswers(command: Command, path: string | undefined): Promise<Answers> {
  const file = path === undefined ? {} : loadYaml(path, answersFile, 'answers');
  const config = existsSync(CONFIG_FILE) ? readConfig() : undefined;
  let known: Known;
  try {
    known = knownAnswers(file, config);
  } catch (cause) {
    throw cannotRead('file', (cause as NodeJS.ErrnoException).path ?? '', cause, 'USAGE');
  }
  const isAsked = path === undefined && config === undefined && canAsk(command);
  const isOpen = ({ key, isOptional }: Question): boolean =>
    known.given[key] === undefined &&
    !(key.startsWith('admin.') && config !== undefined) &&
    (isOptional !== true || isAsked);
  for (const { key, refuses } of QUESTIONS) {
    const text = known.given[key];
    // what a configuration says was checked when it was read, but this name was not
    const isChecked = config === undefined || key === 'listen';
    const refusal = isChecked && text !== undefined ? refuses(text) : undefined;
    if (refusal !== undefined) {
      throw new ChamberlainError('USAGE', `${key}: ${refusal}`, { action: 'Correct the answer.' });
    }
  }
  const open = QUESTIONS.filter(isOpen);
  if (open.length > 0 && !canAsk(command)) {
    const missing = open.map(({ key }) => key).join(', ');
    throw new ChamberlainError(
      'USAGE',
      `setup does not know ${missing}, and ${whyNotAsked(command)}`,
      {
        action: 'Give them in a file with --answers FILE: see `chamberlain setup --help`.',
      },
    );
  }
  if (open.length > 0) {
    const asked = open.map((question) => ({
      ...question,
      refuses: (text: string) => refuseText(text, question.refuses),
    }));
    const answers = await askEach(asked);
    if (answers === undefined)
      command.error('error: a question has no answer, so nothing was done');
    open.forEach(({ key }, at) => (known.given[key] = answerIn(answers[at] ?? '')));
  }
  if (config === undefined) await requireAddress(known.given.listen);
  return completeAnswers(known);
}

/** Other machines, and the checks of setup itself, reach the servers by this name. */
async function requireAddress(listen: string | undefined): Promise<void> {
  if (!listen) return;
  await lookup(listen).catch(() => {
    throw new ChamberlainError('USAGE', `listen: this machine finds no address of ${listen}`, {
      action: 'Correct the answer, or add the name to DNS or /etc/hosts.',
    });
  });
}

function refuseText(text: string, refuses: Question['refuses']): string | undefined {
  try {
    return refuses(answerIn(text));
  } catch {
    return `The file ${text} cannot be read.`;
  }
}
