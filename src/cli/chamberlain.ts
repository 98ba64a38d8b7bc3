#!/usr/bin/env -S node --disable-sigusr1
/** The entry point of the command line. */
import { ChamberlainError } from '../shared/errors.ts';
import { endCommand, EXIT } from './exit.ts';
import { main } from './main.ts';

for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(); // the reader has read enough: `chamberlain requests | head`
    if (stream === process.stderr) process.exit(EXIT.failed);
    endCommand(
      new ChamberlainError('STEP_FAILED', 'writing standard output', { cause: error, action: '' }),
    );
  });
}

await main(process.argv.slice(2));
