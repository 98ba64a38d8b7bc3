# Times processes, one after another. Each line of standard input is a program's full path and its arguments,
# separated by tabs; an empty line is a process that runs nothing. For each, a line of standard output: the
# microseconds from before the fork until its standard output was read to the end and it was waited for, the
# status of wait(2), and how many bytes it has written. The standard input of each is empty.
#
# It is in Perl, because forking a large process such as Node costs more than what is measured: this one is
# small.
use strict;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

open(my $runs, '<&', \*STDIN) or die "standard input: $!"; # closed at an exec, as all above 2
open(STDIN, '<', '/dev/null') or die "/dev/null: $!";

while (my $run = <$runs>) {
  chomp $run;
  my @words = split /\t/, $run;
  my $begin = clock_gettime(CLOCK_MONOTONIC);
  pipe(my $from, my $to) or die "pipe: $!";
  my $child = fork() // die "fork: $!";
  if ($child == 0) {
    kill 'KILL', $$ unless @words;
    open(STDOUT, '>&', $to) and exec { $words[0] } @words;
    kill 'KILL', $$; # no exit, which would write once more what waits to be written
  }
  close $to;
  my $bytes = 0;
  while (my $read = sysread($from, my $buffer, 65536)) { $bytes += $read }
  close $from;
  waitpid($child, 0);
  my $status = $?;
  printf "%.0f %d %d\n", (clock_gettime(CLOCK_MONOTONIC) - $begin) * 1e6, $status, $bytes;
}
