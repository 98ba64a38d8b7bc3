/** An account with the name of a system group can gain the rights of the group. */
import { existsSync, readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { isReservedName } from '../../src/identity/reserved-names.ts';

// Debian 13: base-passwd, and sysusers.d of systemd, dbus and openssh-server.
const BASE = `
  root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc _apt nobody
  adm tty disk kmem dialout fax voice cdrom floppy tape sudo audio dip operator src shadow utmp
  video sasl plugdev staff users nogroup crontab input sgx kvm render messagebus sshd
  systemd-journal systemd-network systemd-timesync systemd-resolve
`;
/** A member of one of these is or can become root. */
const POWERFUL = 'docker lxd lxc libvirt wheel sudo adm disk shadow kmem staff admin ssl-cert';
/** The accounts that Chamberlain's own servers run as. */
const SERVERS = 'postgres mysql mariadb redis openldap ldap sssd mailer-daemon';
/** Accounts that the installation creates, and others that it may create later. */
const OWN =
  'chamberlain chamberlain-intake chamberlain-portals chamberlain-keys chamberlain-lookup chamberlain-x';

const words = (text: string) => text.trim().split(/\s+/);

test.each([...words(BASE), ...words(POWERFUL), ...words(SERVERS), ...words(OWN)])(
  'the name %s is reserved',
  (name) => {
    expect(isReservedName(name, [])).toBe(true);
  },
);

test('every account and group of the base system on this machine is reserved', () => {
  const files = ['/usr/share/base-passwd/passwd.master', '/usr/share/base-passwd/group.master'];
  const names = files
    .filter((file) => existsSync(file))
    .flatMap((file) => readFileSync(file, 'utf8').split('\n'))
    .map((line) => line.split(':', 1)[0] ?? '')
    .filter((name) => name !== '');
  expect(names.filter((name) => !isReservedName(name, []))).toEqual([]);
});

test('names in the configuration are reserved', () => {
  expect(isReservedName('keeper', ['keeper'])).toBe(true);
  expect(isReservedName('keeper', [])).toBe(false);
});

test.each(['alice', 'bob', 'chamberlains', 'docker1', 'rooty'])('the name %s is free', (name) => {
  expect(isReservedName(name, [])).toBe(false);
});
