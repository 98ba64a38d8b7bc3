/**
 * A home with everything in it that a tenant can create, and root by mistake; and the description of a tree.
 */
import { spawnSync } from 'node:child_process';

/** Fills the home of an account, as root, with files of the tenant's and of others. */
export async function fillHostile(home: string, uid: number): Promise<void> {
  perl(
    home,
    `use Socket; use POSIX (); my $uid = shift;
     sub make { my ($n, $t) = @_; open my $f, ">", $n or die "$n: $!"; print $f $t; close $f; }
     make("plain", "text\\n"); make("empty", "");
     make("new\\nline", "1"); make("bad\\xff\\xfeutf8", "2"); make("-rf", "3"); make(" blank ", "4");
     make("tab\\there\\\\back", "5"); make("..dots", "6"); make("n" x 255, "7"); make('*', "8");
     make(chr(27) . "[31m", "9"); make("tar: 1000", "10");
     symlink "/etc/passwd", "to-passwd" or die; symlink "../../..", "up" or die;
     symlink "nowhere/" . ("x" x 4000), "dangling" or die; symlink "plain", "to-plain" or die;
     mkdir "folder" or die; symlink "/etc", "folder/etc" or die; make("folder/inside", "in");
     symlink "/proc/self/root", "root" or die;
     link "plain", "folder/hard" or die; link "to-passwd", "folder/hard-link" or die;
     system("mkfifo", "fifo") == 0 or die;
     socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; bind($s, sockaddr_un("socket")) or die $!;
     open my $sparse, ">", "sparse" or die; seek $sparse, 5_000_000_000, 0; print $sparse "end";
     seek $sparse, 1_000_000, 0; print $sparse "middle"; close $sparse;
     open my $hole, ">", "hole" or die; truncate $hole, 1 << 42 or die; close $hole;
     make("setuid", "#!"); make("setgid", "#!"); make("of-another", "a"); make("closed", "c");
     mkdir "sticky" or die; mkdir "unreadable" or die; make("unreadable/in", "u");
     my $deep = "deep"; mkdir $deep or die; for (1 .. 60) { $deep .= "/" . "d" x 20; mkdir $deep or die "$!" }
     make("$deep/bottom", "b");
     mkdir "wide" or die; make("wide/$_", "") for 1 .. 2000;
     for my $n (glob("* .* wide/* folder/*"), "new\\nline", "bad\\xff\\xfeutf8", " blank ") {
       next if $n eq "." || $n eq ".." || -l $n; chown $uid, $uid, $n; }
     chown 60001, 60002, "of-another"; chown 0, 0, "setuid"; chmod 04755, "setuid"; chmod 02755, "setgid";
     chmod 0, "closed"; chmod 01777, "sticky"; chmod 0, "unreadable";
     system("setfacl", "-m", "u:60003:rw,g:60004:---", "plain") == 0 or die;
     system("setfacl", "-d", "-m", "u:60005:rwx", "folder") == 0 or die;
     # setxattr(2): not every file system keeps these
     my $set = (POSIX::uname())[4] eq "aarch64" ? 5 : 188; my ($xf, $xn, $xv) = ("plain", "user.color", "red\\0blue");
     syscall $set, $xf, $xn, $xv, length $xv, 0;
     utime 1, 1, "empty"; utime 1e9 + 0.123456789, 1e9 + 0.123456789, "plain"; utime 5, 4294967296 + 7, "folder";`,
    String(uid),
  );
}

/** One line for each entry: type, mode, owner, links, size, time, target, ACL, extended attributes, hash. */
export function treeOf(root: string): string[] {
  return perl(
    root,
    `use Digest::SHA; use POSIX (); use Time::HiRes qw(lstat); use Fcntl ":mode";
     my %acl; { open my $g, "-|", "getfacl", "-R", "-P", "-n", "." or die; local $/ = "\\n\\n";
       while (<$g>) { /^# file: (.*)$/m or next; my $n = $1; s/^#.*\\n//mg; s/\\n+/,/g; $acl{$n} = $_ } }
     my @todo = ("."); my %first;
     while (defined(my $n = shift @todo)) {
       my @s = lstat $n or die "$n: $!"; my $m = $s[2];
       my $t = S_ISDIR($m) ? "folder" : S_ISLNK($m) ? "link" : S_ISREG($m) ? "file" : S_ISFIFO($m) ? "fifo" : S_ISSOCK($m) ? "socket" : "other";
       my $q = $n; $q =~ s/([^!-\\[\\]-~])/sprintf "\\\\%03o", ord $1/ge;  (my $k = $n) =~ s/([\\\\\\s]|[^ -~])/sprintf "\\\\%03o", ord $1/ge;
       my $line = sprintf "%s %s %o %d:%d mtime %.7f", $t, $q, $m & 07777, @s[4, 5], $t eq "socket" ? 0 : $s[9];
       $line .= " same as $first{$s[1]}" if $t ne "folder" && $s[3] > 1 && $first{$s[1]}; $first{$s[1]} ||= $q;
       my ($xn, $xv) = ("user.color", " " x 20); my $get = (POSIX::uname())[4] eq "aarch64" ? 8 : 191;
       if ($t eq "file") { my $x = syscall $get, $n, $xn, $xv, 20; $line .= " color " . unpack "H*", substr $xv, 0, $x if $x > 0 }
       $line .= " size $s[7] blocks $s[12]" if $t eq "file"; $line .= " -> " . readlink $n if $t eq "link";
       $line .= " acl $acl{$n eq '.' ? '.' : substr($k, 2)}" if $t eq "folder" || $t eq "file";
       if ($t eq "file" && $s[7] < 1e6) { my $d = Digest::SHA->new(256); open my $f, "<", $n or die "$n: $!"; $d->addfile($f); $line .= " " . $d->hexdigest; }
       elsif ($t eq "file" && $s[7] < 1e10) { open my $f, "<", $n; seek $f, 1_000_000, 0; read $f, my $a, 6; seek $f, 5_000_000_000, 0; read $f, my $b, 9; $line .= " $a $b" }
       print "$line\\0";
       if ($t eq "folder") { opendir my $d, $n or die; push @todo, map { "$n/$_" } sort grep { !/^\\.\\.?$/s } readdir $d }
     }`,
  )
    .split('\0')
    .filter((line) => line !== '')
    .sort();
}

function perl(cwd: string, program: string, ...words: string[]): string {
  const { status, stdout, stderr } = spawnSync('perl', ['-e', program, ...words], {
    cwd,
    encoding: 'latin1',
    maxBuffer: 1 << 28,
  });
  if (status !== 0) throw new Error(stderr);
  return stdout;
}

/**
 * Creates a branch of folders 3,000 deep and one of 400, some with names of 200 bytes, and everything that can
 * be at some depth.
 */
export async function fillDeep(home: string, uid: number): Promise<void> {
  perl(
    home,
    `use POSIX (); my $uid = shift; my @open;
     sub make { my ($n, $t) = @_; open my $f, ">", $n or die "$n: $!"; print $f $t; close $f; }
     sub fill { my ($at) = @_;
       opendir my $d, "." or die "$!"; push @open, $d; my $fd = "/proc/self/fd/" . fileno $d;
       make("file", "at $at"); symlink "../file", "link" or die; symlink "../" x 500 . "a/$at", "far" or die; system("mkfifo", "fifo") == 0 or die;
       open my $sparse, ">", "sparse" or die; seek $sparse, 1_000_000, 0; print $sparse "end"; close $sparse;
       make("bad\\xffname\\n", $at); link "file", "same" or die; mkdir "empty" or die; mkdir "-n" or die;
       for my $other (@open) { link "/proc/self/fd/" . fileno($other) . "/file", "of-" . fileno $other or die "$!" }
       link "file", "/proc/self/fd/" . fileno($open[0]) . "/from-$at" or die "$!";
       system("setfacl", "-m", "u:60003:rw,g:60004:---", "file") == 0 or die; system("setfacl", "-d", "-m", "u:60005:rwx", ".") == 0 or die;
       my ($xf, $xn, $xv) = ("file", "user.color", "at $at"); syscall +(POSIX::uname())[4] eq "aarch64" ? 5 : 188, $xf, $xn, $xv, length $xv, 0; chown $uid, $uid, ".", "file"; chown 60001, 60002, "sparse"; chmod 02755, "empty";
       system("touch", "-hd", "\\@1.123456789", "link", "sparse"); }
     fill(0);
     for my $branch ("a", "b") {
       opendir my $top, "." or die;
       for (1 .. ($branch eq "a" ? 3000 : 400)) { my $n = $_ % 100 < 2 ? $branch x 200 : "$branch$_"; mkdir $n or die "$!"; chdir $n or die "$!"; fill("$branch$_") if $_ =~ /^(150|151|1000|2999|3000)$/ }
       while (fileno $top) { opendir my $d, "." or die; last if (stat "/proc/self/fd/" . fileno $d)[1] == (stat "/proc/self/fd/" . fileno $top)[1];
         system("touch", "-d", "\\@2.000000" . (100 + rand 900), ".") if rand() < 0.02; chdir ".." or die; }
     }`,
    String(uid),
  );
}

/**
 * One line for each entry, even if no path leads to it; names of the same file together. By programs that go
 * step by step.
 */
export function deepTreeOf(root: string): string[] {
  const listed = run(
    root,
    `find . -printf '%y %d %f %m %U:%G %n %s %b %T@ %l %i\\0' && find . -type f -execdir sha256sum -z -- {} + &&
     find . \\( -type f -o -name '*50' -o -name empty \\) -execdir getfacl -n --absolute-names -- {} + | tr '\\n' ' ' | sed 's/# file/\\n&/g' | tr '\\n' '\\0' &&
     find . -type f -execdir perl -e 'use POSIX; for (@ARGV) { my ($f, $n, $v) = ($_, "user.color", " " x 20);
       my $had = syscall +(POSIX::uname())[4] eq "aarch64" ? 8 : 191, $f, $n, $v, 20; print "$f ", substr($v, 0, $had), "\\0" if $had > 0 }' {} +`,
  ).split('\0');
  const names = new Map<string, string[]>();
  const lines = listed.map((line) => {
    const [, entry = line, inode] = /^(. \d+ [^]*) (\d+)$/u.exec(line) ?? [];
    const same = inode === undefined ? [] : (names.get(inode) ?? []);
    if (inode !== undefined) names.set(inode, same);
    same.push(entry.split(' ').slice(0, 3).join(' '));
    return { entry, same };
  });
  return lines.map(({ entry, same }) => `${entry} ${same.toSorted().join(' = ')}`).sort();
}

function run(cwd: string, script: string): string {
  const { status, stdout, stderr } = spawnSync('bash', ['-o', 'pipefail', '-c', script], {
    cwd,
    encoding: 'latin1',
    maxBuffer: 1 << 28,
  });
  if (status !== 0) throw new Error(stderr.slice(-1000));
  return stdout;
}
