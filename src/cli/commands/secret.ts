/** `chamberlain secret rotate`: replaces a password or a key while it is in use. */
import { createPublicKey } from 'node:crypto';
import { nextOf } from '../../shared/config.ts';
import { secretsOf } from '../../doctor/files.ts';
import { sealKeyId } from '../../seals/seal.ts';
import { confirm, requireTerminal } from '../confirm.ts';
import type { Command } from '../command.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { withProgress } from '../progress.ts';
import { finish, rotate, type Rotated, type Rotation, rotationOf } from '../../secrets/rotating.ts';
import { readSecretFiles } from '../../secrets/secret-files.ts';
import { print, printJson } from '../table.ts';

interface RotateOptions {
  finish?: true;
  check?: true;
  yes?: true;
}

export function define(secret: Command): void {
  secret
    .description('Replaces the passwords and keys of the realm while they are in use.')
    .helpCommand(false)
    .examples('secret rotate redis-intake');
  const command = secret.command('rotate').summary('replace one password or key');
  command
    .description(
      'Makes a new password or key for NAME, a file in the folder `secrets`, while the realm runs: no login\n' +
        'is refused, and no program on this machine needs a restart. The file keeps its owner and mode. The\n' +
        'command may be interrupted at any moment, and run again. Run it as root on the machine that has the\n' +
        'file. It needs the secrets named below, and postgres-admin to write the audit.\n\n' +
        '  postgres-ROLE         changed by that PostgreSQL role itself, at once; first stop the programs\n' +
        '                        on other machines that use it\n' +
        '  ldap-ACCOUNT          changed by ldap-admin; the old password stays valid until --finish\n' +
        '  ldap-admin            changed by root on the machine of the directory (ldapi://), at once\n' +
        '  mariadb-ACCOUNT       changed by mariadb-databases; the old password stays valid until --finish\n' +
        '  redis-USER            changed by redis-owner; the old password stays valid until --finish\n' +
        '  seal-key, events-key  a new key is made, and its public half printed; login hosts or portals must\n' +
        '                        know it before --finish puts it into use\n\n' +
        'The keys of portals and admins are not kept here: the realm knows only their public halves.',
    )
    .argument('<NAME>', 'such as redis-intake, postgres-homes or seal-key')
    .option('--finish', 'the second step: end the old password, or put the new key into use')
    .option('--check', 'only show what would be done')
    .option('--yes', 'do not ask for confirmation; required without a terminal')
    .examples(
      'secret rotate postgres-homes',
      'secret rotate ldap-keys-agent --check',
      'secret rotate ldap-keys-agent --finish',
      'secret rotate events-key --yes --json',
    )
    .exits({ 1: 'the command failed (see standard error), or the answer was no' })
    .action(async (name: string) => {
      const options = command.opts<RotateOptions>();
      const json = wantsJson(command);
      const isAsked = options.yes === true || options.check === true;
      if (!isAsked) requireTerminal(command, '--yes, or --check');
      const config = configOf(command);
      if (!secretsOf(config).includes(name)) {
        command.error(
          `error: '${name}' is not a secret of this realm: see docs/install.md, step 2`,
        );
      }
      const its = rotationOf(config, name);
      const { path, next } = readSecretFiles(config, name);
      const steps = options.finish === true ? describeFinish(its, next) : describeFirst(its, path);
      if (!json) print(`${name}, ${its.what}:\n${steps.map((step) => `- ${step}`).join('\n')}`);
      if (options.check === true) {
        if (json) printJson({ name, what: its.what, steps });
        return;
      }
      if (!isAsked && !(await confirm('\nDo that? [y/N] '))) return;
      const act = options.finish === true ? finish : rotate;
      const rotated = await withProgress(json, (say) => act(config, its, say));
      if (json) printJson(rotated);
      else print(`\n${describeRotated(rotated, its, path)}`);
    });
}

function describeFirst(secret: Rotation, path: string): string[] {
  switch (secret.way) {
    case 'key':
      return [
        `a new key is made in ${nextOf(path)}; the present key stays in use`,
        `its public half is printed: give it to each ${secret.others}, which must also keep the present one`,
      ];
    case 'one at a time':
      return [
        `${secret.server} accepts a new password instead of the present one; sessions continue`,
        `${path} is replaced; if other machines have this file too, first end the programs there that log in with it`,
      ];
    default:
      return [
        `${secret.server} accepts a new password as well as the present one; sessions continue`,
        `${path} is replaced`,
        'the old password stays valid until --finish',
      ];
  }
}

/** @param next the key that is to be put into use */
function describeFinish(secret: Rotation, next: string | undefined): string[] {
  if (secret.way === 'key') {
    return [
      `the new key is put into use: a ${secret.others} that does not know the key refuses everything that is signed with it`,
      secret.name === 'seal-key' && next !== undefined
        ? `nothing here shows whether each login host knows it: ${lookFor(next)}`
        : `nothing here shows whether each ${secret.others} knows it: check that first`,
    ];
  }
  return [
    secret.way === 'two at once'
      ? `${secret.server} accepts only the present password: a program that has the old one is refused`
      : 'there is no second step: the first one did everything',
  ];
}

function describeRotated(rotated: Rotated, secret: Rotation, path: string): string {
  const again = `chamberlain secret rotate ${rotated.name} --finish`;
  switch (rotated.step) {
    case 'rotated':
      return `Rotated: ${path} holds the new password.`;
    case 'beside':
      return (
        `Rotated: ${path} holds the new password; the old one stays valid too.\n` +
        `Replace the file on each other machine that has this secret. Then run\n  ${again}`
      );
    case 'announced':
      return `${rotated.publicKey ?? ''}\n${describeOthers(secret, rotated)}\nThen run\n  ${again}`;
    case 'finished':
      return secret.way === 'key'
        ? `Finished: ${path} is the new key. ${describeLast(secret)}`
        : 'Finished: the old password is no longer valid.';
    default:
      return 'There is nothing to finish.';
  }
}

/** How a login host shows that it knows the seal key. */
function lookFor(key: string): string {
  return `\`keys-agent status\` on each must name ${sealKeyId(createPublicKey(key))} in its row "sealed by"`;
}

function describeOthers({ name }: Rotation, { publicKey = '' }: Rotated): string {
  return name === 'seal-key'
    ? 'Let each login host that has joined join again: `chamberlain join`, then `chamberlain-login-host setup --join` there.\n' +
        'On a host that was set up by hand, put this key into a file, and run\n' +
        '  chamberlain-login-host --seal-key OLD.pem --seal-key NEW.pem\n' +
        '(from a clone: deploy/login-host/install, with the same options).\n' +
        `Before the next step, ${lookFor(publicKey)}.`
    : 'Give this key to each portal, which must accept events signed with either key.';
}

function describeLast({ name }: Rotation): string {
  return name === 'seal-key'
    ? 'All seals are renewed with it within four days.\n' +
        'When `keys-agent status` of a host shows no seal of the old key, give the host only the new key.\n' +
        'Make a set of backups now: if you restore an older set, `recover` learns nothing from seals of the old key.'
    : 'A portal that has received an event signed with it can remove the old key.';
}
