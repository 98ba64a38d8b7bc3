/** `chamberlain secret rotate`: replaces a password or a key while it is in use. */
import { createPublicKey } from 'node:crypto';
import type { Command } from 'commander';
import { nextOf } from '../../shared/config.ts';
import { secretsOf } from '../../doctor/files.ts';
import { sealKeyId } from '../../seals/seal.ts';
import { canAsk, confirm } from '../confirm.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { describeExamples, describeExits, EXIT } from '../exit.ts';
import { startProgress } from '../progress.ts';
import { finish, rotate, type Rotated, type Rotation, rotationOf } from '../../secrets/rotating.ts';
import { readSecretFiles } from '../../secrets/secret-files.ts';
import { print, printJson } from '../table.ts';

interface RotateOptions {
  finish?: true;
  check?: true;
  yes?: true;
}

export function defineSecret(secret: Command): void {
  secret
    .description('Replaces the passwords and keys of the realm while they are in use.')
    .helpCommand(false)
    .addHelpText('after', describeExamples('secret rotate redis-intake'));
  const command = secret.command('rotate').summary('replace one password or key');
  command
    .description(
      'Makes a new password or key for NAME, a file of the folder `secrets`, in a running realm: no login\n' +
        'is refused, and nothing is restarted. The file keeps its owner and mode. It may be interrupted at\n' +
        'any moment, and run again. Run it as root, where the file is; it needs the secrets named here, and\n' +
        'postgres-admin, by which it writes the audit.\n\n' +
        '  postgres-ROLE         by the role itself, at once; not while other machines log in by it\n' +
        '  ldap-ACCOUNT          by ldap-admin; the old password is valid until --finish\n' +
        '  ldap-admin            by root on the machine of the directory (ldapi://), at once\n' +
        '  mariadb-ACCOUNT       by mariadb-databases; the old password is valid until --finish\n' +
        '  redis-USER            by redis-owner; the old password is valid until --finish\n' +
        '  seal-key, events-key  a key is made, and its public half printed; login hosts or portals must\n' +
        '                        know it before --finish puts it to use\n\n' +
        'Keys of portals and of admins are not kept here: the configuration lists their public halves.',
    )
    .argument('<NAME>', 'such as redis-intake, postgres-homes or seal-key')
    .option('--finish', 'the second step: end the old password, or use the new key')
    .option('--check', 'only show what would be done')
    .option('--yes', 'do not ask; without a terminal this is needed')
    .addHelpText(
      'after',
      describeExamples(
        'secret rotate postgres-homes',
        'secret rotate ldap-keys-agent --check',
        'secret rotate ldap-keys-agent --finish',
        'secret rotate events-key --yes --json',
      ) + `\n${describeExits({ 1: 'it failed, or the answer was no: standard error says why' })}`,
    )
    .action(async (name: string) => {
      const options = command.opts<RotateOptions>();
      const json = wantsJson(command);
      const isAsked = options.yes === true || options.check === true;
      if (!isAsked && (json || !canAsk())) {
        command.error('error: nobody can be asked here; give --yes, or --check');
      }
      const config = configOf(command);
      if (!secretsOf(config).includes(name)) {
        command.error(`error: '${name}' is no secret of this realm: see docs/install.md, step 2`);
      }
      const its = rotationOf(config, name);
      const { path, next } = readSecretFiles(config, name);
      const steps = options.finish === true ? describeFinish(its, next) : describeFirst(its, path);
      if (!json) print(`${name}, ${its.what}:\n${steps.map((step) => `- ${step}`).join('\n')}`);
      if (options.check === true) {
        if (json) printJson({ name, what: its.what, steps });
        return;
      }
      if (!isAsked && !(await confirm('\nDo that? [y/N] '))) {
        print('Nothing was done.');
        process.exitCode = EXIT.failed;
        return;
      }
      const progress = startProgress({ json });
      let rotated: Rotated;
      try {
        rotated = await (options.finish === true ? finish : rotate)(config, its, progress.say);
      } finally {
        progress.end();
      }
      if (json) printJson(rotated);
      else print(`\n${describeRotated(rotated, its, path)}`);
    });
}

function describeFirst(secret: Rotation, path: string): string[] {
  switch (secret.way) {
    case 'key':
      return [
        `a new key is made in ${nextOf(path)}; the present one stays in use`,
        `its public half is printed: give it to each ${secret.others}, beside the present one`,
      ];
    case 'one at a time':
      return [
        `${secret.server} takes a new password in the place of the present one; sessions go on`,
        `${path} is replaced; where it is on other machines too, end what logs in there by it first`,
      ];
    default:
      return [
        `${secret.server} takes a new password beside the present one; sessions go on`,
        `${path} is replaced`,
        'the old password stays valid until --finish',
      ];
  }
}

/** @param next the key that is to be used */
function describeFinish(secret: Rotation, next: string | undefined): string[] {
  if (secret.way === 'key') {
    return [
      `the new key is used from now on: a ${secret.others} that does not know it refuses what it signs`,
      secret.name === 'seal-key' && next !== undefined
        ? `nothing here shows whether each login host knows it: ${lookFor(next)}`
        : `nothing here shows whether each ${secret.others} knows it: ask there first`,
    ];
  }
  return [
    secret.way === 'two at once'
      ? `${secret.server} takes the present password alone: a program that has the old one is refused`
      : 'there is no second step: the first does all',
  ];
}

function describeRotated(rotated: Rotated, secret: Rotation, path: string): string {
  const again = `chamberlain secret rotate ${rotated.name} --finish`;
  switch (rotated.step) {
    case 'rotated':
      return `Rotated: ${path} holds the new password.`;
    case 'beside':
      return (
        `Rotated: ${path} holds the new password; the old one is valid too.\n` +
        `Replace the file on each other machine that has this secret. Then run\n  ${again}`
      );
    case 'announced':
      return `${rotated.publicKey ?? ''}\n${describeOthers(secret, rotated)}\nThen run\n  ${again}`;
    case 'finished':
      return secret.way === 'key'
        ? `Finished: ${path} is the new key. ${describeLast(secret)}`
        : 'Finished: the old password is valid no more.';
    default:
      return 'There is nothing to finish.';
  }
}

/** Where a login host shows that it knows the seal key. */
function lookFor(key: string): string {
  return `\`keys-agent status\` of each must name ${sealKeyId(createPublicKey(key))} in its row "sealed by" first`;
}

function describeOthers({ name }: Rotation, { publicKey = '' }: Rotated): string {
  return name === 'seal-key'
    ? 'Put this key into a file, and run on each login host\n' +
        '  deploy/login-host/install --seal-key OLD.pem --seal-key NEW.pem\n' +
        `${lookFor(publicKey)}.`
    : 'Give this key to each portal, which must take events by either key.';
}

function describeLast({ name }: Rotation): string {
  return name === 'seal-key'
    ? 'Seals are renewed with it within four days.\n' +
        'When `keys-agent status` of a host shows no seal of the old key, give it the new key alone.\n' +
        'Make a set of backups now: after a restore of an older one, what the old key has signed shows nothing.'
    : 'When a portal has had an event that is signed by it, the portal can forget the old key.';
}
