/** `chamberlain schema`: the fields of each kind of request. */
import { ChamberlainError } from '../../shared/errors.ts';
import { isKind, KIND_SUMMARIES, REQUEST_KINDS, URGENT_KINDS } from '../../requests/kinds.ts';
import { suggest } from '../../shared/nearest.ts';
import type { Command } from '../command.ts';
import { wantsJson } from '../configuration.ts';
import { schemaOf } from '../../requests/kind-schemas.ts';
import { print, printJson, renderTable } from '../table.ts';

export function define(command: Command): void {
  command
    .description(
      'Prints the JSON Schema (2020-12) of one kind of request: the private claim `request` of the\n' +
        'signed token. Without KIND, lists the kinds, or with --json prints the schemas of all.',
    )
    .argument('[KIND]', 'such as tool.create')
    .examples('schema', 'schema tool.create', 'schema --json')
    .exits()
    .action((kind: string | undefined) => {
      if (kind === undefined) return printKinds(wantsJson(command));
      if (!isKind(kind)) {
        throw new ChamberlainError(
          'USAGE',
          `unknown kind '${kind}'${suggest(kind, REQUEST_KINDS)}`,
        );
      }
      return print(JSON.stringify(schemaOf(kind), undefined, 2));
    });
}

function printKinds(json: boolean): void {
  if (json) {
    printJson(Object.fromEntries(REQUEST_KINDS.map((kind) => [kind, schemaOf(kind)])));
    return;
  }
  print(
    renderTable(
      ['kind', 'queue', 'what it is'],
      REQUEST_KINDS.map((kind) => [
        kind,
        URGENT_KINDS.has(kind) ? 'requests.urgent.PORTAL' : 'requests.PORTAL',
        KIND_SUMMARIES[kind],
      ]),
    ),
  );
}
