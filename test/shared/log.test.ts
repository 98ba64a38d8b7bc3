/** What the log must never contain, no matter who logs it. */
import { expect, test } from '@jest/globals';
import { ChamberlainError } from '../../src/shared/errors.ts';
import { openLog, withoutSecrets } from '../../src/shared/log.ts';

const VERIFIER = '*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19';
const TOKEN = 'eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJwb3J0YWwifQ.c2lnbmF0dXJl';

function logged(act: (log: ReturnType<typeof openLog>) => void): string {
  const lines: string[] = [];
  act(openLog('debug', { write: (line) => lines.push(line) }));
  return lines.join('');
}

test('fields with the name of a secret are cut out, two levels deep', () => {
  const text = logged((log) => {
    log.info({
      password: 'planted-1',
      job: { token: 'planted-2', data: { verifier: 'planted-3' } },
    });
  });
  expect(text).not.toContain('planted');
  expect(text).toContain('[secret]');
});

test('an error is reduced to its code and its messages, without what a library attaches', () => {
  const cause = Object.assign(new Error('connection lost'), {
    command: { name: 'set', args: ['planted'] },
    sql: 'planted',
  });
  const error = new ChamberlainError('STEP_FAILED', 'adding s50001', {
    cause,
    context: { uid: 50001 },
  });
  const text = logged((log) => {
    log.error({ err: error }, 'failed');
    log.error({ error: cause }, 'failed');
    log.error({ error: `could not: ${VERIFIER}` }, 'failed');
  });
  expect(text).not.toContain('planted');
  expect(text).not.toContain(VERIFIER);
  expect(text).toContain('"code":"STEP_FAILED","message":"adding s50001: connection lost"');
  expect(text).toContain('"uid":50001');
});

test.each([
  ['a verifier', `ALTER USER x IDENTIFIED BY PASSWORD '${VERIFIER}'`, VERIFIER],
  ['a verifier in lower case', VERIFIER.toLowerCase(), VERIFIER.toLowerCase()],
  ['a token', `{"token":"${TOKEN}"}`, TOKEN],
  ['a private key', '-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----', 'MC4C'],
  ['half a private key', '-----BEGIN OPENSSH PRIVATE KEY-----\nMC4C', 'MC4C'],
  ['a password in a URL', 'redis://user:planted@host:6379', 'planted'],
])('%s within a text is cut out', (_, text, secret) => {
  expect(withoutSecrets(text)).not.toContain(secret);
  expect(withoutSecrets(text)).toContain('[secret]');
});
