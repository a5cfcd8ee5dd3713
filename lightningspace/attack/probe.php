<?php
// What a customer's own program can do on the server. It answers only the shop's check: `flask walls`
// uploads it into a hosting of the shop's, with a random key, and removes it with the hosting.

$asked = json_decode(file_get_contents('php://input'), true);
if (!is_array($asked) || !hash_equals('THE KEY', (string) ($asked['key'] ?? ''))) {
    http_response_code(404);
    exit;
}
ignore_user_abort(true);
set_time_limit(60);
ini_set('display_errors', '0');

function run(string $command): array
{
    exec("($command) 2>&1", $lines, $status);
    return ['status' => $status, 'text' => implode("\n", array_slice($lines, 0, 200))];
}

function read_file(string $path): array
{
    $text = @file_get_contents($path, false, null, 0, 4096);
    return ['text' => $text === false ? null : $text];
}

// Whether anything listens on a port, and what it says first.
function connect(string $host, int $port): array
{
    $stream = @stream_socket_client("tcp://$host:$port", $code, $message, 3);
    if ($stream === false) {
        return ['connected' => false, 'text' => $message];
    }
    stream_set_timeout($stream, 2);
    return ['connected' => true, 'text' => (string) @fgets($stream, 200)];
}

// Whether a mail server accepts a recipient; no mail is sent.
function smtp(string $host, int $port, string $from, string $to): array
{
    $stream = @stream_socket_client("tcp://$host:$port", $code, $message, 5);
    if ($stream === false) {
        return ['accepted' => false, 'text' => $message];
    }
    stream_set_timeout($stream, 10);
    $said = '';
    foreach ([null, 'EHLO localhost', "MAIL FROM:<$from>", "RCPT TO:<$to>"] as $command) {
        if ($command !== null) {
            fwrite($stream, "$command\r\n");
        }
        do {
            $line = (string) fgets($stream, 1000);
            $said = $line ?: $said;
        } while (isset($line[3]) && $line[3] === '-');
        if (!preg_match('/^[23]/', $line)) {
            fwrite($stream, "QUIT\r\n");
            return ['accepted' => false, 'text' => trim($said)];
        }
    }
    fwrite($stream, "RSET\r\nQUIT\r\n");
    return ['accepted' => true, 'text' => trim($said)];
}

// Run a script through the PHP-FPM that listens at an address, and return its output.
function fastcgi(string $address, string $script): array
{
    $stream = @stream_socket_client($address, $code, $message, 3);
    if ($stream === false) {
        return ['text' => null, 'why' => $message];
    }
    stream_set_timeout($stream, 5);
    $record = function (int $type, string $content): string {
        return pack('CCnnCx', 1, $type, 1, strlen($content), 0) . $content;
    };
    $values = '';
    $facts = ['SCRIPT_FILENAME' => $script, 'REQUEST_METHOD' => 'GET', 'GATEWAY_INTERFACE' => 'CGI/1.1'];
    foreach ($facts as $name => $value) {
        $values .= pack('CC', strlen($name), strlen($value)) . $name . $value;
    }
    fwrite($stream, $record(1, pack('nCx5', 1, 0)) . $record(4, $values) . $record(4, '') . $record(5, ''));
    return ['text' => (string) stream_get_contents($stream, 4096)];
}

switch ($asked['do'] ?? '') {
    case 'look':
        $answer = ['version' => PHP_MAJOR_VERSION . '.' . PHP_MINOR_VERSION, 'user' => run('id -un')['text']];
        break;
    case 'run':
        $answer = run((string) $asked['command']);
        break;
    case 'read':
        $answer = read_file((string) $asked['path']);
        break;
    case 'connect':
        $answer = connect((string) $asked['host'], (int) $asked['port']);
        break;
    case 'smtp':
        $answer = smtp((string) $asked['host'], (int) $asked['port'], (string) $asked['from'], (string) $asked['to']);
        break;
    case 'fastcgi':
        $answer = fastcgi((string) $asked['address'], (string) $asked['script']);
        break;
    case 'mail':
        $answer = ['accepted' => @mail((string) $asked['to'], 'walls', 'A check of the shop.')];
        break;
    default:
        $answer = [];
}
header('Content-Type: application/json');
echo json_encode($answer, JSON_INVALID_UTF8_SUBSTITUTE);
