/** A private machine for the login helper's tests, and processes in it that must end, or live on. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openMachine, type Machine } from '../../dev/servers/private-machine.ts';
import { eventually } from '../scenarios/eventually.ts';

const PROJECT = join(import.meta.dirname, '../..');
export const CLONE = '/opt/chamberlain';
export const NODE = `${CLONE}/node_modules/.bin/node`;

/** The loginuid of processes that belong to no login. */
export const NO_LOGIN = 4_294_967_295;

/** Stays until it is ended; its file in /tmp shows that it is running, and its pid. */
const STAY = `#!/usr/bin/perl
use Time::HiRes 'sleep';
use POSIX ();
my ($name, @how) = map { /(.*)/s } @ARGV; # what a perl with two uids else takes for tainted
$ENV{PATH} = '/usr/local/bin:/usr/bin:/bin';
sub ready {
  open(my $file, '>', "/tmp/$name.new") or die;
  print $file $$;
  close $file;
  rename("/tmp/$name.new", "/tmp/$name");
}
while (defined(local $_ = shift @how)) {
  if ($_ eq 'stubborn') { $SIG{HUP} = $SIG{TERM} = 'IGNORE' }
  elsif (/^title (.*)/) { ($_ = $1) =~ tr/~/\\0/; $0 = $_ }
  elsif (/^flees on (.*)/) {
    $SIG{$1} = sub {
      exit if fork;
      POSIX::setsid();
      $name .= '.fled';
      ready();
      sleep 1 while 1;
    }
  }
  elsif ($_ eq 'then') { my @child = splice @how; fork or exec @child }
  elsif ($_ eq 'euid is ruid') { $> = $< } # the saved one stays
  elsif ($_ eq 'headless') {
    require threads;
    threads->create(sub { ready(); sleep 1 while 1 });
    syscall(\`uname -m\` =~ /x86/ ? 60 : 93, 0); # exit(2): of the first thread alone
  } elsif (/^hopping by (.*)/) { # so many, each of which forks and exits
    $SIG{CHLD} = 'IGNORE';
    open(my $beat, '>>', "/tmp/$name.beat") or die;
    for (2 .. $1) { last unless fork }
    ready();
    while (1) { syswrite($beat, '.'); POSIX::_exit(0) if fork }
  }
}
ready();
sleep 1 while 1;
`;

/**
 * Starts a program with a loginuid, and reaps what it and all below it leave (PR_SET_CHILD_SUBREAPER): a
 * program that hops would fill the list of processes with its dead.
 */
const KEEP = `#!/usr/bin/perl
my ($login, @program) = @ARGV;
syscall(\`uname -m\` =~ /x86/ ? 157 : 167, 36, 1) == 0 or die $!;
if (!fork) {
  open(my $file, '>', '/proc/self/loginuid') or die;
  print $file $login;
  close $file or die;
  exec @program;
}
1 while wait > 0;
`;

interface Victim {
  /** of its files in /tmp */
  readonly name: string;
  /** the pid inside the machine */
  readonly pid: number;
  lives(): boolean;
  isStopped(): boolean;
}

export interface HelperMachine extends Machine {
  /** A path of the machine as this one sees it. */
  inside: (path: string) => string;
  /**
   * Starts a process, and returns when it is ready.
   *
   * @param login its loginuid
   * @param setpriv arguments of setpriv(1): whose it is
   * @param how see STAY
   */
  start(login: number, setpriv: readonly string[], how?: readonly string[]): Promise<Victim>;
  /** The process that STAY has started under a name. */
  started(name: string): Promise<Victim>;
}

export async function openHelperMachine(): Promise<HelperMachine> {
  const machine = await openMachine([{ from: PROJECT, at: CLONE, readOnly: true }]);
  const inside = (path: string): string => join(machine.root, path);
  writeFileSync(inside('/usr/local/bin/stay'), STAY, { mode: 0o755 });
  writeFileSync(inside('/usr/local/bin/keep'), KEEP, { mode: 0o755 });

  const started = async (name: string): Promise<Victim> => {
    await eventually(`${name} is ready`, () => existsSync(inside(`/tmp/${name}`)));
    const pid = Number(readFileSync(inside(`/tmp/${name}`), 'utf8'));
    const status = inside(`/proc/${pid}/status`);
    return {
      ...{ name, pid, lives: () => lives(status) },
      isStopped: () => /^State:\s+T/m.test(readFileSync(status, 'utf8')),
    };
  };

  let count = 0;
  return {
    ...machine,
    inside,
    started,
    async start(login, setpriv, how = []) {
      const name = `started-${(count += 1)}`;
      const launch = 'setsid keep "$@" </dev/null >/tmp/kept 2>&1 &';
      const program = ['setpriv', ...setpriv, '/usr/local/bin/stay', name, ...how];
      await machine.must(['/bin/sh', '-c', launch, 'launch', String(login), ...program]);
      return await started(name);
    },
  };
}

/** A process that has ended may stay in the list; and its first thread may have ended without it. */
function lives(status: string): boolean {
  if (!existsSync(status)) return false;
  const text = readFileSync(status, 'utf8');
  return !/^State:\s+[ZX]/m.test(text) || !/^Threads:\s+1$/m.test(text);
}
