# Makes a daemon reload its files, and returns when the new ones are in effect: when its log says so
# (if `$says` is given), and its old children have closed their ports (if `$has_children`).
use strict;
use warnings;

my ($pid_file, $signal, $has_children, $log, $says) = @ARGV;

sub content {
    open(my $file, '<', $_[0]) or return '';
    local $/;
    return <$file> // '';
}

sub until_so {
    my ($what, $question) = @_;
    for (1 .. 1500) {
        return if $question->();
        select(undef, undef, undef, 0.01);
    }
    die "waited in vain until it $what: " . substr(content($log), -2000) . "\n";
}

sub is_deaf {
    my ($pid) = @_;
    my %listening;
    for (map { split /\n/, content($_) } '/proc/net/tcp', '/proc/net/tcp6') {
        my @fields = split;
        $listening{"socket:[$fields[9]]"} = 1 if $fields[3] eq '0A';
    }
    return !grep { $listening{readlink($_) // ''} } glob("/proc/$pid/fd/*");
}

my $pid = content($pid_file) + 0;
my $children = "/proc/$pid/task/$pid/children";
-e $children or die "this kernel does not tell whose children processes are\n";
my @former = $has_children ? split(' ', content($children)) : ();
my $before = length(content($log));
kill($signal, $pid) or die "there is no process $pid\n";
if ($says) {
    until_so("says “$says”", sub { index(content($log), $says, $before) >= 0 });
}
for my $child (@former) {
    until_so('lets go of its ports', sub { is_deaf($child) });
}
