<?php
// What the programs that the shop puts on sites have in common. It becomes a part of each file, at its
// end (see __init__.py), so it defines functions and classes only.

/** Why something is not possible; its message is a key of the program's `words()`. */
final class Trouble extends Exception
{
}

// -- settings ---------------------------------------------------------------------------

function settings_file(): array
{
    // @: no warning if the file is missing or unreadable.
    $json = (string) @file_get_contents(SETTINGS, false, null, 0, BYTES_MAX);
    if (strncmp($json, "\xEF\xBB\xBF", 3) === 0) {  // some editors put it first
        $json = substr($json, 3);
    }
    $found = json_decode($json, true, 8, JSON_INVALID_UTF8_SUBSTITUTE);
    return is_array($found) ? $found : [];
}

/** Without TLS only on this machine, where the shop is tried out. */
function shop_url($value): ?string
{
    $host = '([a-z0-9-]+(\.[a-z0-9-]+)*|\[[0-9a-f:]+\])(:\d{1,5})?';
    $local = '(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d{1,5})?';
    $url = is_string($value) ? rtrim($value, '/') : null;
    return matching("#^(https://$host|http://$local)$#D", $url);
}

/** name@host (LUD-16), in lower case; a shop that is tried out may have any host. */
function lightning_address($value, ?string $shop): ?string
{
    $address = is_string($value) ? strtolower(trim($value)) : null;
    $domain = '([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])';
    $host = $shop === null ? '' : '|' . preg_quote(host_of($shop), '/');
    return matching("/^[a-z0-9._+-]{1,64}@(?=.{1,253}$)($domain$host)$/D", $address);
}

function host_of(string $url): string
{
    return (string) preg_replace('#^https?://#', '', $url);
}

function url_of_address(string $address, ?string $shop): string
{
    [$user, $host] = explode('@', $address);
    $is_plain = $shop === "http://$host" || substr($host, -6) === '.onion';
    return ($is_plain ? 'http' : 'https') . "://$host/.well-known/lnurlp/$user";
}

// -- Lightning --------------------------------------------------------------------------

/** The amount of a BOLT 11 invoice, in tenths of a millisatoshi; null if it has none or is none. */
function invoice_amount(string $invoice): ?float
{
    $worth = ['' => 1e12, 'm' => 1e9, 'u' => 1e6, 'n' => 1e3, 'p' => 1.0];
    // The data after the last 1 contain no 1, so this is unambiguous.
    $form = '/^ln(?:bcrt|bc|tbs|tb)([1-9]\d{0,11})([munp]?)1[02-9ac-hj-np-z]{100,4000}$/D';
    return preg_match($form, $invoice, $parts) ? (float) $parts[1] * $worth[$parts[2]] : null;
}

function bech32_sum(array $words): int
{
    $sum = 1;
    foreach ($words as $word) {
        $top = $sum >> 25;
        $sum = ($sum & 0x1ffffff) << 5 ^ $word;
        foreach ([0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3] as $bit => $factor) {
            $sum ^= $top >> $bit & 1 ? $factor : 0;
        }
    }
    return $sum;
}

// -- asking over HTTP -------------------------------------------------------------------

/**
 * The status, the body up to a little more than BYTES_MAX, and where a redirect leads, "" if it is none:
 * nobody follows it here. Throws Trouble: "bare" if PHP lacks what it takes, "down" without a whole answer.
 */
function ask(string $method, string $url, string $body = ''): array
{
    $ask = way_to_ask($url);
    if ($ask === null) {
        throw new Trouble('bare');
    }
    return $ask($method, $url, $body);
}

function read_json(string $answer): array
{
    $read = strlen($answer) > BYTES_MAX ? null : json_decode($answer, true, 8);
    if (!is_array($read)) {
        throw new Trouble('odd');
    }
    return $read;
}

/** The function that makes the request; null if PHP lacks what each of them needs. */
function way_to_ask(string $url): ?string
{
    $curl = ['curl_init', 'curl_setopt_array', 'curl_exec', 'curl_getinfo'];
    if (count(array_filter($curl, 'function_exists')) === count($curl)) {
        return 'ask_by_curl';
    }
    $has_tls = strncmp($url, 'https', 5) !== 0 || extension_loaded('openssl');
    return $has_tls && function_exists('stream_socket_client') ? 'ask_by_socket' : null;
}

function request_headers(string $body): array
{
    $sent = ['Accept: application/json', 'User-Agent: ' . AGENT];
    return array_merge($sent, $body === '' ? [] : ['Content-Type: application/json']);
}

function ask_by_curl(string $method, string $url, string $body): array
{
    $answer = '';
    $handle = curl_init();
    curl_setopt_array($handle, [
        CURLOPT_URL => $url,
        CURLOPT_CUSTOMREQUEST => $method,
        CURLOPT_HTTPHEADER => request_headers($body),
        CURLOPT_PROTOCOLS => CURLPROTO_HTTP | CURLPROTO_HTTPS,
        CURLOPT_FOLLOWLOCATION => false,
        CURLOPT_SSL_VERIFYPEER => true,
        CURLOPT_SSL_VERIFYHOST => 2,
        CURLOPT_TIMEOUT => SECONDS_MAX,  // in all, however slowly the answer arrives
        CURLOPT_NOSIGNAL => true,
        CURLOPT_WRITEFUNCTION => function ($handle, string $part) use (&$answer): int {
            $answer .= $part;
            return strlen($answer) > BYTES_MAX ? 0 : strlen($part);  // 0 aborts
        },
    ]);
    if ($body !== '') {
        curl_setopt_array($handle, [CURLOPT_POSTFIELDS => $body]);
    }
    if (!curl_exec($handle) && strlen($answer) <= BYTES_MAX) {
        throw new Trouble('down');
    }
    $leads_to = (string) curl_getinfo($handle, CURLINFO_REDIRECT_URL);
    return [curl_getinfo($handle, CURLINFO_RESPONSE_CODE), $answer, $leads_to];
}

/**
 * The same without curl. fopen() would need allow_url_fopen, and its time limit applies to each read:
 * a slow answer could hold the visitor for hours.
 */
function ask_by_socket(string $method, string $url, string $body): array
{
    $at = parse_url($url);
    $is_tls = $at['scheme'] === 'https';
    $deadline = hrtime(true) / 1e9 + SECONDS_MAX;
    $host = $at['host'] . (isset($at['port']) ? ':' . $at['port'] : '');
    // HTTP/1.0, because its answers are not chunked.
    $query = isset($at['query']) ? "?{$at['query']}" : '';
    $lines = ["$method {$at['path']}$query HTTP/1.0", "Host: $host", 'Connection: close'];
    $lines[] = 'Content-Length: ' . strlen($body);
    $lines = array_merge($lines, request_headers($body));
    $socket = connect($at['host'], $at['port'] ?? ($is_tls ? 443 : 80), $is_tls, $deadline);
    write_all($socket, implode("\r\n", $lines) . "\r\n\r\n" . $body, $deadline);
    $answer = read_answer($socket, $deadline);
    fclose($socket);
    if (!preg_match('/^HTTP\/1\.[01] (\d{3})\b/', $answer, $status)) {
        throw new Trouble($answer === '' ? 'down' : 'odd');
    }
    $parts = explode("\r\n\r\n", $answer, 2);
    $leads = $status[1][0] === '3' && preg_match('/\r\nlocation: *(\S+)/i', $parts[0], $to);
    $leads_to = $leads ? (strpos($to[1], '/') === 0 ? "{$at['scheme']}://$host" : '') . $to[1] : '';
    return [(int) $status[1], $parts[1] ?? '', $leads_to];
}

// @ below: the page explains these errors, so PHP need not warn of them.

function connect(string $host, int $port, bool $is_tls, float $deadline)
{
    $tls = ['verify_peer' => true, 'verify_peer_name' => true, 'peer_name' => trim($host, '[]')];
    $context = stream_context_create(['ssl' => $tls]);
    $kind = STREAM_CLIENT_CONNECT;
    $socket = @stream_socket_client("tcp://$host:$port", $no, $why, SECONDS_MAX, $kind, $context);
    if (!$socket) {
        throw new Trouble('down');
    }
    stream_set_blocking($socket, false);
    $versions = STREAM_CRYPTO_METHOD_TLSv1_2_CLIENT | STREAM_CRYPTO_METHOD_TLSv1_3_CLIENT;
    // 0: not done yet; false: failed, or the certificate is not accepted.
    while ($is_tls && ($is_done = @stream_socket_enable_crypto($socket, true, $versions)) !== true) {
        if ($is_done === false) {
            throw new Trouble('down');
        }
        await($socket, false, $deadline);
    }
    return $socket;
}

function write_all($socket, string $text, float $deadline): void
{
    while ($text !== '') {
        $written = @fwrite($socket, $text);
        if ($written === false) {
            throw new Trouble('down');
        }
        $text = (string) substr($text, $written);
        if ($text !== '') {
            await($socket, true, $deadline);
        }
    }
}

/** Read until the end, the announced length, or too much. */
function read_answer($socket, float $deadline): string
{
    $answer = '';
    while (strlen($answer) <= 2 * BYTES_MAX && strlen($answer) < announced_end($answer)) {
        $part = @fread($socket, 16384);
        if ((string) $part !== '') {
            $answer .= $part;
        } elseif ($part === false || feof($socket)) {
            break;
        } else {
            await($socket, false, $deadline);
        }
    }
    return $answer;
}

function announced_end(string $answer): int
{
    $body = strpos($answer, "\r\n\r\n");
    $head = $body === false ? '' : substr($answer, 0, $body + 2);
    $is_known = preg_match('/\r\ncontent-length: *(\d{1,9})\r\n/i', $head, $length);
    return $is_known ? $body + 4 + (int) $length[1] : PHP_INT_MAX;
}

/** Wait until the stream can be read or written. */
function await($socket, bool $writes, float $deadline): void
{
    $left = (int) (($deadline - hrtime(true) / 1e9) * 1e6);
    $none = null;
    $read = $writes ? null : [$socket];
    $write = $writes ? [$socket] : null;
    if ($left <= 0 || !@stream_select($read, $write, $none, intdiv($left, 1000000), $left % 1000000)) {
        throw new Trouble('down');
    }
}

// -- plain values -----------------------------------------------------------------------

/** A parameter of the request; one that is no text (`amount[]=`) counts as empty. */
function parameter(array $from, string $name): string
{
    $value = $from[$name] ?? '';
    return is_string($value) ? $value : '';
}

/** Without control characters; null if it is not UTF-8. */
function clean_message(string $typed): ?string
{
    $typed = str_replace(["\r\n", "\r"], "\n", $typed);
    $clean = preg_replace('/[^\P{Cc}\n]/u', '', $typed);
    return $clean === null ? null : trim($clean);
}

function matching(string $pattern, $value): ?string
{
    return is_string($value) && preg_match($pattern, $value) ? $value : null;
}

/** A non-negative whole number, or its text. */
function whole($value): ?int
{
    $is_whole = is_int($value) || is_string($value);
    return $is_whole && preg_match('/^\d{1,9}$/D', (string) $value) ? (int) $value : null;
}

/** The owner's text, with its line breaks. */
function text($value, int $max): ?string
{
    $clean = is_string($value) ? clean_message($value) : null;
    return $clean === null || $clean === '' ? null : preg_replace("/^(.{{$max}}).*$/Dsu", '$1…', $clean);
}

/** Without mbstring, which may be missing. */
function characters(string $text): int
{
    return (int) preg_match_all('/./su', $text);
}

// -- pages ------------------------------------------------------------------------------

function e(?string $text): string
{
    return htmlspecialchars((string) $text, ENT_QUOTES | ENT_SUBSTITUTE, 'UTF-8');
}

function sats(int $sat): string
{
    return number_format($sat, 0, '.', ',');
}

/** `$script`: what the page has of it, if any. */
function send_page_headers(string $script = ''): void
{
    $hash = function (string $text): string {
        return "'sha256-" . base64_encode(hash('sha256', $text, true)) . "'";
    };
    $runs = $script === '' ? '' : "connect-src 'self'; script-src " . $hash($script) . '; ';
    header("Content-Security-Policy: default-src 'none'; img-src data:; " . $runs
        . 'style-src ' . $hash(style()) . '; '
        . "form-action 'self'; base-uri 'none'; frame-ancestors 'self'");
    header('Content-Type: text/html; charset=UTF-8');
    header('X-Content-Type-Options: nosniff');
    header('Referrer-Policy: no-referrer');
    header('Cache-Control: no-store');
    header_remove('X-Powered-By');
}

function qr(?string $picture, string $alt): void
{
    if ($picture !== null) {
        echo '<img class="qr" alt="', e($alt), '" src="', $picture, "\">\n";
    }
}

function bolt(): string
{
    return '<svg class="bolt" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" aria-hidden="true">'
        . '<rect width="24" height="24" rx="6" fill="#c2410c"/>'
        . '<path fill="#fff" d="M13.4 3 5.5 13.6h5L9.6 21l8.4-11h-5.2z"/></svg>';
}

function style(): string
{
    return <<<'CSS'

:root {
  color-scheme: light dark;
  --back: #faf8f5; --card: #fff; --ink: #221c17; --soft: #6b6259; --line: #ddd5cb; --edge: #8f867c;
  --accent: #c2410c; --strong: #9a3412; --link: #b23a08; --wrong: #b42318; --wrong-back: #fef1ef;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #171412; --card: #211d1a; --ink: #f1ebe4; --soft: #b3a99e; --line: #3b342e; --edge: #857a6f;
    --accent: #c2410c; --strong: #9a3412; --link: #fb923c; --wrong: #fda29b; --wrong-back: #3a1d19;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 1.0625rem/1.55 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
main { max-width: 30rem; margin: 0 auto; padding: clamp(1.5rem, 6vh, 4rem) 1.25rem 3rem; }
header { margin-bottom: 2rem; }
.bolt { display: block; width: 3rem; height: 3rem; }
h1 { margin: 1rem 0 .5rem; font-size: clamp(1.6rem, 1.2rem + 2.2vw, 2.1rem); line-height: 1.2; text-wrap: balance; overflow-wrap: anywhere; }
p { margin: 0 0 1rem; overflow-wrap: anywhere; }
a { color: var(--link); text-underline-offset: .15em; }
label { display: block; margin: 0 0 .35rem; font-weight: 600; }
small { color: var(--soft); font-size: .875rem; font-weight: 400; }
input, textarea { display: block; width: 100%; min-width: 0; margin: 0; padding: .7rem .8rem; border: 1px solid var(--edge); border-radius: .6rem; background: var(--card); color: inherit; font: inherit; }
textarea { resize: vertical; }
.code { font: .8125rem/1.45 ui-monospace, monospace; word-break: break-all; }
button, .button { display: inline-block; padding: .7rem 1.4rem; border: 1px solid transparent; border-radius: .6rem; background: var(--accent); color: #fff; font: inherit; font-weight: 600; text-align: center; text-decoration: none; cursor: pointer; }
button:hover, .button:hover { background: var(--strong); }
.copy, .plain { background: none; border-color: var(--edge); color: var(--ink); }
.copy:hover, .plain:hover { background: var(--line); }
:is(a, button, input, textarea):focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.amounts { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0 1.5rem; }
.amounts button { flex: 1 1 5rem; padding: 1.1rem .5rem; white-space: nowrap; }
.amounts b { display: block; font-size: 1.375rem; line-height: 1.2; }
.amounts span { font-weight: 400; }
.row { display: flex; gap: .75rem; }
.row button { flex: none; }
.error { margin: .5rem 0 0; color: var(--wrong); font-weight: 600; }
.trouble { margin-bottom: 1.5rem; padding: .9rem 1rem; border-left: 4px solid var(--wrong); border-radius: .4rem; background: var(--wrong-back); }
.trouble p:last-child { margin: 0; }
.trouble small { color: inherit; }
.pay { display: grid; gap: .75rem; margin-bottom: 1.5rem; }
.pay > * { margin: 0; }
.pay label { margin-top: .25rem; }
.qr { display: block; width: 100%; max-width: 21rem; height: auto; margin: .5rem auto; border-radius: .6rem; background: #fff; image-rendering: pixelated; }
.address { font-size: 1.25rem; font-weight: 600; text-align: center; }
footer { margin-top: 2.5rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft); font-size: .9375rem; }
.copy { display: none; }
.can-copy .copy { display: inline-block; }
.unseen { position: absolute; width: 1px; height: 1px; padding: 0; border: 0; overflow: hidden; clip-path: inset(50%); }

CSS;
}
