<?php
// lightning-space tip jar UNSTAMPED
//
// The first page of a hosting: visitors give a tip over Lightning. In the mode "site" it keeps the
// site online (the shop makes the invoice, money becomes time); in the mode "wallet" it goes to the
// owner's own Lightning Address, which the visitor's wallet asks by itself.
//
// The settings are in tipjar.json beside this file; the shop writes them, and this program
// has a default for whatever is missing or wrong there. You may edit both files: they are yours then,
// and nobody overwrites them.
//
// For PHP 7.4 to 8.4, without extensions. That is why there is no match, str_contains or union
// type here (8.0), no `Type $x = null` (deprecated in 8.4) and no curl_close (in 8.5).

const SETTINGS = __DIR__ . '/tipjar.json';
const BYTES_MAX = 256 * 1024;   // of the settings, and of an answer of the shop
const QR_BYTES_MAX = 128 * 1024;
const SECONDS_MAX = 8;          // for all that is asked of the shop while a visitor waits
const LOOK_SECONDS = 5;         // between two looks at a tip that is not paid yet
const MESSAGE_MAX = 140;        // characters
const AMOUNTS_MAX = 6;          // buttons
const SAT_MAX = 100000000;      // one bitcoin

/** Why a tip is not possible; its message is a key of `words()`. */
final class Trouble extends Exception
{
}

// No warning may ever reach a page, whatever php.ini says; the server's log still has it.
if (function_exists('ini_set')) {
    ini_set('display_errors', '0');
}
// Discard what PHP printed before this line, such as a warning about thousands of fields.
if (ob_get_length()) {
    ob_clean();
}
answer(settings());

// -- what the visitor asks for ---------------------------------------------------------

/**
 * No session, no cookie, no rights: a POST can only create an invoice, which anybody may ask for. So
 * a forged form (CSRF) gains nothing.
 */
function answer(array $settings): void
{
    $is_post = ($_SERVER['REQUEST_METHOD'] ?? '') === 'POST';
    if ($is_post && $settings['mode'] === 'site') {
        ask_for_tip($settings);
    } elseif (isset($_GET['tip'])) {
        show_tip($settings, parameter($_GET, 'tip'));
    } else {
        show_jar($settings);
    }
}

/** Create an invoice and redirect to it, so that a reload does not create another one. */
function ask_for_tip(array $settings): void
{
    $message = clean_message(parameter($_POST, 'message'));
    $sat = chosen_amount($settings);
    $problems = array_filter([
        'amount' => $sat === null ? amount_problem($settings) : null,
        'message' => message_problem($message),
    ]);
    if ($problems) {
        show_jar($settings, $problems);
        return;
    }
    try {
        $tip = new_tip($settings, $sat, $message);
    } catch (Trouble $trouble) {
        show_jar($settings, [], $trouble->getMessage());
        return;
    }
    send_headers();
    // Relative, because an absolute path could be made to lead elsewhere ("//…").
    header('Location: ?tip=' . $tip['order'], true, 303);
}

/** In sat; null if this jar does not take it. */
function chosen_amount(array $settings): ?int
{
    $chosen = parameter($_POST, 'amount');
    $typed = $chosen === 'own' || $chosen === '' ? parameter($_POST, 'own') : $chosen;
    // Separators of thousands: 1,000 or 1.000 or 1'000 or 1 000. There are no fractions of a sat.
    if (preg_match('/^\s*\d{1,3}([,.\' _]\d{3}){1,3}\s*$/D', $typed)) {
        $typed = preg_replace('/\D/', '', $typed);
    }
    $sat = whole(trim($typed));
    return $sat !== null && $sat >= $settings['min'] && $sat <= $settings['max'] ? $sat : null;
}

function amount_problem(array $settings): string
{
    $bounds = sats($settings['min']) . ' and ' . sats($settings['max']);
    return "Please choose an amount, or enter one between $bounds sat.";
}

/** Without control characters; null if it is not UTF-8. */
function clean_message(string $typed): ?string
{
    $typed = str_replace(["\r\n", "\r"], "\n", $typed);
    $clean = preg_replace('/[^\P{Cc}\n]/u', '', $typed);
    return $clean === null ? null : trim($clean);
}

function message_problem(?string $message): ?string
{
    if ($message === null) {
        return 'This message cannot be read. Please write it again.';
    }
    return characters($message) > MESSAGE_MAX
        ? 'Please shorten the message to ' . MESSAGE_MAX . ' characters.'
        : null;
}

/** A parameter of the request; one that is no text (`amount[]=`) counts as empty. */
function parameter(array $from, string $name): string
{
    $value = $from[$name] ?? '';
    return is_string($value) ? $value : '';
}

// -- settings --------------------------------------------------------------------------

function settings(): array
{
    $found = settings_file();
    $shop = shop_url($found['shop'] ?? null);
    $own = lightning_address($found['wallet_address'] ?? null, null);
    $mode = ($found['mode'] ?? null) === 'wallet' && $own !== null ? 'wallet' : 'site';
    $site = matching('/^[a-z0-9.-]{1,253}$/D', $found['site'] ?? null);
    $shops = lightning_address($found['lightning_address'] ?? null, $shop);
    $address = $mode === 'wallet' ? $own : $shops;
    $lnurl = $address === null ? null : lnurl(url_of_address($address, $shop));
    [$min, $max] = bounds($found);
    return [
        'shop' => $shop,
        'username' => matching('/^[a-z0-9][a-z0-9_-]{0,63}$/D', $found['username'] ?? null),
        'site' => $site,
        'mode' => $mode,
        'title' => text($found['title'] ?? null, 120) ?? default_title($mode, $site),
        'text' => text($found['text'] ?? null, 2000) ?? default_text($mode),
        'min' => $min,
        'max' => $max,
        'amounts' => amounts($found['amounts_sat'] ?? null, $min, $max),
        'address' => $address,
        'lnurl' => $lnurl,
        'qr' => qr_of($found['qr'] ?? null, $lnurl),
    ];
}

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

function bounds(array $found): array
{
    $min = whole($found['min_sat'] ?? null);
    $max = whole($found['max_sat'] ?? null);
    $min = $min !== null && $min >= 1 && $min <= SAT_MAX ? $min : 1;
    $max = $max !== null && $max >= 1 && $max <= SAT_MAX ? $max : 1000000;
    return $min <= $max ? [$min, $max] : [1, 1000000];
}

/** The amounts on the buttons; there is at least one. */
function amounts($value, int $min, int $max): array
{
    $fitting = function ($amounts) use ($min, $max): array {
        $fits = function ($sat) use ($min, $max): bool {
            return $sat !== null && $sat >= $min && $sat <= $max;
        };
        $sats = array_filter(array_map('whole', array_slice($amounts, 0, 100)), $fits);
        return array_slice(array_values(array_unique($sats)), 0, AMOUNTS_MAX);
    };
    $amounts = $fitting(is_array($value) ? $value : []);
    return $amounts ?: $fitting([100, 1000, 10000]) ?: [$min];
}

/** The QR code in the settings, if it is that of this address. */
function qr_of($value, ?string $lnurl): ?string
{
    $is_ours = is_array($value) && $lnurl !== null && ($value['of'] ?? null) === $lnurl;
    return $is_ours ? picture($value['svg'] ?? null) : null;
}

function default_title(string $mode, ?string $site): string
{
    return $mode === 'wallet' ? 'Leave a tip' : 'Keep ' . ($site ?? 'this site') . ' online';
}

function default_text(string $mode): string
{
    return $mode === 'wallet'
        ? 'If you like what you found here, you can leave a tip. It goes straight to me.'
        : 'Tips keep this site online: each one pays for more time.';
}

// -- Lightning -------------------------------------------------------------------------

/** The amount of a BOLT 11 invoice, in tenths of a millisatoshi; null if it has none or is none. */
function invoice_amount(string $invoice): ?float
{
    $worth = ['' => 1e12, 'm' => 1e9, 'u' => 1e6, 'n' => 1e3, 'p' => 1.0];
    // The data after the last 1 contain no 1, so this is unambiguous.
    $form = '/^ln(?:bcrt|bc|tbs|tb)([1-9]\d{0,11})([munp]?)1[02-9ac-hj-np-z]{100,4000}$/D';
    return preg_match($form, $invoice, $parts) ? (float) $parts[1] * $worth[$parts[2]] : null;
}

function url_of_address(string $address, ?string $shop): string
{
    [$user, $host] = explode('@', $address);
    $is_plain = $shop === "http://$host" || substr($host, -6) === '.onion';
    return ($is_plain ? 'http' : 'https') . "://$host/.well-known/lnurlp/$user";
}

/** LUD-01: bech32, in upper case for a coarser QR code. */
function lnurl(string $url): string
{
    $letters = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l';
    $words = five_bits($url);
    $prefix = [3, 3, 3, 3, 3, 0, 12, 14, 21, 18, 12];  // "lnurl", as bech32 sums it up
    $sum = bech32_sum(array_merge($prefix, $words, [0, 0, 0, 0, 0, 0])) ^ 1;
    for ($place = 25; $place >= 0; $place -= 5) {
        $words[] = $sum >> $place & 31;
    }
    $text = 'lnurl1';
    foreach ($words as $word) {
        $text .= $letters[$word];
    }
    return strtoupper($text);
}

function five_bits(string $bytes): array
{
    $bits = '';
    foreach (str_split($bytes) as $byte) {
        $bits .= sprintf('%08b', ord($byte));
    }
    return array_map(function (string $five): int {
        return (int) bindec(str_pad($five, 5, '0'));
    }, str_split($bits, 5));
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

// -- the shop --------------------------------------------------------------------------

/** The shop's API. Its answers are checked before anything in them is shown or followed. */
function new_tip(array $settings, int $sat, string $message): array
{
    $asked = ['amount_msat' => $sat * 1000] + ($message === '' ? [] : ['message' => $message]);
    $answer = ask_shop('POST', tips_url($settings), 201, json_encode($asked));
    $tip = tip_of($answer);
    if ($tip['msat'] !== $sat * 1000 || $tip['state'] !== 'unpaid') {
        throw new Trouble('odd');
    }
    return $tip;
}

function tip_as_it_is(array $settings, string $order): array
{
    $tip = tip_of(ask_shop('GET', tips_url($settings) . "/$order", 200));
    if ($tip['order'] !== $order) {
        throw new Trouble('odd');
    }
    return $tip;
}

/** Always built from the settings, never from a URL in an answer. */
function tips_url(array $settings): string
{
    if ($settings['shop'] === null || $settings['username'] === null) {
        throw new Trouble('unset');
    }
    return $settings['shop'] . '/api/v1/tips/' . $settings['username'];
}

function tip_of(array $answer): array
{
    $states = ['unpaid', 'checking', 'paid', 'expired', 'late'];
    $tip = [
        'order' => matching('/^[0-9a-f]{32}$/D', $answer['order'] ?? null),
        'state' => $answer['state'] ?? null,
        'msat' => $answer['amount_msat'] ?? null,
        'invoice' => null,
        'qr' => null,
        'expires_at' => moment($answer['expires_at'] ?? null),
        'is_applied' => ($answer['applied'] ?? null) === true,
        'paid_until' => moment($answer['paid_until'] ?? null),
    ];
    $is_whole = $tip['order'] !== null && in_array($tip['state'], $states, true);
    if (!$is_whole || !is_int($tip['msat']) || $tip['msat'] < 1) {
        throw new Trouble('odd');
    }
    if ($tip['state'] === 'unpaid') {
        $tip['invoice'] = invoice_of($answer['invoice'] ?? null, $tip['msat']);
        $tip['qr'] = picture($answer['qr_svg'] ?? null);
    }
    return $tip;
}

/** An invoice of another amount than the visitor was shown is refused. */
function invoice_of($value, int $msat): string
{
    if (!is_string($value) || invoice_amount($value) !== $msat * 10.0) {
        throw new Trouble('odd');
    }
    return $value;
}

/** An SVG as a data: URL; in an <img>, scripts in it never run. */
function picture($svg): ?string
{
    $is_svg = is_string($svg) && strncmp($svg, '<svg', 4) === 0 && strlen($svg) <= QR_BYTES_MAX;
    return $is_svg ? 'data:image/svg+xml;base64,' . base64_encode($svg) : null;
}

/** The shop learns nothing of the visitor but the amount and the message. */
function ask_shop(string $method, string $url, int $expected, string $body = ''): array
{
    $ask = way_to_ask($url);
    if ($ask === null) {
        throw new Trouble('bare');
    }
    [$status, $answer] = $ask($method, $url, $body);
    if ($status !== $expected) {
        throw new Trouble(isset(words()["$status"]) ? "$status" : 'odd');
    }
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
    $sent = ['Accept: application/json', 'User-Agent: lightning-space tip jar'];
    return array_merge($sent, $body === '' ? [] : ['Content-Type: application/json']);
}

/** The status, and the body up to a little more than BYTES_MAX. */
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
    return [curl_getinfo($handle, CURLINFO_RESPONSE_CODE), $answer];
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
    $lines = ["$method {$at['path']} HTTP/1.0", "Host: $host", 'Connection: close'];
    $lines[] = 'Content-Length: ' . strlen($body);
    $lines = array_merge($lines, request_headers($body));
    $socket = connect($at['host'], $at['port'] ?? ($is_tls ? 443 : 80), $is_tls, $deadline);
    write_all($socket, implode("\r\n", $lines) . "\r\n\r\n" . $body, $deadline);
    $answer = read_answer($socket, $deadline);
    fclose($socket);
    if (!preg_match('/^HTTP\/1\.[01] (\d{3})\b/', $answer, $status)) {
        throw new Trouble($answer === '' ? 'down' : 'odd');
    }
    return [(int) $status[1], explode("\r\n\r\n", $answer, 2)[1] ?? ''];
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

// -- words -----------------------------------------------------------------------------

/** What visitors read about a trouble; numbers are statuses of the shop's API. */
function words(): array
{
    return [
        'unset' => 'This tip jar does not know its shop, so it cannot make an invoice.',
        'bare' => 'This tip jar cannot reach its shop, so it cannot make an invoice.',
        'down' => 'The shop does not answer right now. Please try again in a few minutes.',
        'odd' => 'The shop gave an answer that makes no sense, so please pay nothing now. '
            . 'Try again in a few minutes.',
        'unknown' => 'There is no such tip. You can give one here.',
        '400' => 'The shop does not take this amount or this message. Please try others.',
        '404' => 'This page takes no tips right now.',
        '409' => 'This site takes no more tips: its hosting is about to end.',
        '429' => 'Too many tips at once. Please try again in a minute.',
        '503' => 'The shop cannot make an invoice right now. Please try again in a few minutes.',
    ];
}

/** What the owner can do about it; it is shown on the same page. */
function words_for_owner(string $trouble): ?string
{
    $for_owner = [
        'unset' => 'tipjar.json beside index.php is missing, or is no JSON with “shop” (https://…) '
            . 'and “username”. Log in at the shop: “Put the tip jar back”, under “Tips”, restores it.',
        'bare' => 'PHP has neither curl (curl_init and curl_exec are missing or disabled) nor '
            . 'stream_socket_client with the extension openssl. One of the two is needed.',
    ];
    return $for_owner[$trouble] ?? null;
}

function e(?string $text): string
{
    return htmlspecialchars((string) $text, ENT_QUOTES | ENT_SUBSTITUTE, 'UTF-8');
}

function sats(int $sat): string
{
    return number_format($sat, 0, '.', ',');
}

// -- plain values ----------------------------------------------------------------------

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

/** Unix seconds of a time such as 2026-11-21T22:00:00Z. */
function moment($value): ?int
{
    $form = '/^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z$/D';
    if (!is_string($value) || !preg_match($form, $value, $at)) {
        return null;
    }
    [, $year, $month, $day, $hour, $minute, $second] = array_map('intval', $at);
    $is_date = checkdate($month, $day, $year);
    return $is_date ? (int) gmmktime($hour, $minute, $second, $month, $day, $year) : null;
}

// -- pages -----------------------------------------------------------------------------
//
// All have status 200, even errors: many servers replace the body of a 4xx or 5xx with a page of their
// own (nginx: fastcgi_intercept_errors), and the visitor would read that.

function show_tip(array $settings, string $order): void
{
    if (matching('/^[0-9a-f]{32}$/D', $order) === null) {
        show_jar($settings, [], 'unknown');
        return;
    }
    try {
        $tip = tip_as_it_is($settings, $order);
    } catch (Trouble $trouble) {
        // While a tip is being paid, the shop may answer at the next try.
        $may_pass = in_array($trouble->getMessage(), ['down', 'odd', '429', '503'], true);
        if ($may_pass) {
            page('Your tip', 'trouble', true, function () use ($settings, $trouble) {
                echo "<h1>Your tip</h1>\n";
                trouble_fragment($settings, $trouble->getMessage(), 'This page looks again by itself.');
                echo "<p><a href=\"?\">Back</a></p>\n";
            });
        } else {
            $is_gone = $trouble->getMessage() === '404';
            show_jar($settings, [], $is_gone ? 'unknown' : $trouble->getMessage());
        }
        return;
    }
    $shown = $tip['state'] === 'paid' && $tip['is_applied'] ? 'applied' : $tip['state'];
    $waits = in_array($shown, ['unpaid', 'checking', 'paid'], true);
    page(tip_title($tip), $shown, $waits, function () use ($settings, $tip) {
        $tip['state'] === 'unpaid' ? invoice_fragment($tip) : state_fragment($settings, $tip);
    });
}

function show_jar(array $settings, array $problems = [], ?string $trouble = null): void
{
    page($settings['title'], '', false, function () use ($settings, $problems, $trouble) {
        jar_fragment($settings, $problems, $trouble);
    });
}

function tip_title(array $tip): string
{
    $titles = [
        'unpaid' => 'Tip ' . sats(intdiv($tip['msat'], 1000)) . ' sat',
        'checking' => 'One moment',
        'paid' => 'Thank you!',
        'expired' => 'This invoice has expired',
        'late' => 'Paid, but too late',
    ];
    return $titles[$tip['state']];
}

function send_headers(): void
{
    $hash = function (string $text): string {
        return "'sha256-" . base64_encode(hash('sha256', $text, true)) . "'";
    };
    header("Content-Security-Policy: default-src 'none'; img-src data:; connect-src 'self'; "
        . 'style-src ' . $hash(style()) . '; script-src ' . $hash(script()) . '; '
        . "form-action 'self'; base-uri 'none'; frame-ancestors 'self'");
    header('Content-Type: text/html; charset=UTF-8');
    header('X-Content-Type-Options: nosniff');
    header('Referrer-Policy: no-referrer');
    header('Cache-Control: no-store');
    header_remove('X-Powered-By');
}

/** `$state`: for the script to compare, "" for the jar. `$waits`: whether the page looks again. */
function page(string $title, string $state, bool $waits, callable $fragment): void
{
    send_headers();
    ?>
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<?php if ($state !== ''): ?>
<meta name="robots" content="noindex">
<?php endif ?>
<?php if ($waits): ?>
<noscript><meta http-equiv="refresh" content="<?= LOOK_SECONDS ?>"></noscript>
<?php endif ?>
<title><?= e($title) ?></title>
<link rel="icon" href="data:image/svg+xml;base64,<?= base64_encode(bolt()) ?>">
<style><?= style() ?></style>
</head>
<body>
<main id="tip" data-state="<?= $state ?>"<?= $waits ? ' data-waits="yes"' : '' ?>>
<?php $fragment() ?>
</main>
<script><?= script() ?></script>
</body>
</html>
<?php
}

function jar_fragment(array $settings, array $problems, ?string $trouble): void
{
    ?>
<header>
<?= bolt() ?>

<h1><?= e($settings['title']) ?></h1>
<p><?= nl2br(e($settings['text'])) ?></p>
</header>
<?php
    $lasting = $settings['mode'] === 'site' ? lasting_trouble($settings) : null;
    $trouble = $lasting ?? $trouble;
    if ($trouble !== null) {
        trouble_fragment($settings, $trouble);
    }
    if ($settings['mode'] === 'wallet') {
        wallet_fragment($settings);
        return;
    }
    if ($lasting === null) {
        form_fragment($settings, $problems);
    }
    purpose_fragment($settings, $trouble === null);
}

/** A trouble that only the owner can end: without a form. */
function lasting_trouble(array $settings): ?string
{
    if ($settings['shop'] === null || $settings['username'] === null) {
        return 'unset';
    }
    return way_to_ask($settings['shop']) === null ? 'bare' : null;
}

function form_fragment(array $settings, array $problems): void
{
    $error = function (string $field) use ($problems): void {
        if (isset($problems[$field])) {
            echo '<p class="error" id="', $field, '-error">', e($problems[$field]), "</p>\n";
        }
    };
    $invalid = function (string $field) use ($problems): string {
        $says_why = 'aria-invalid="true" aria-describedby="' . $field . '-error"';
        return isset($problems[$field]) ? $says_why : '';
    };
    ?>
<form method="post" action="?">
<?php /* On Enter a browser presses the first button: it must take the amount that was typed. */ ?>
<button class="unseen" name="amount" value="own" tabindex="-1" aria-hidden="true">Tip</button>
<label for="message">Message <small>optional, up to <?= MESSAGE_MAX ?> characters</small></label>
<textarea id="message" name="message" rows="2" maxlength="<?= MESSAGE_MAX ?>" <?= $invalid('message') ?>><?= "\n", e(substr(parameter($_POST, 'message'), 0, 1000)) ?></textarea>
<?php $error('message') ?>
<div class="amounts" role="group" aria-label="Amount">
<?php foreach ($settings['amounts'] as $sat): ?>
<button name="amount" value="<?= $sat ?>"><b><?= sats($sat) ?></b> <span>sat</span></button>
<?php endforeach ?>
</div>
<label for="own">Another amount <small><?= sats($settings['min']) ?> to <?= sats($settings['max']) ?> sat</small></label>
<div class="row">
<input id="own" name="own" inputmode="numeric" autocomplete="off" maxlength="20" value="<?= e(substr(parameter($_POST, 'own'), 0, 20)) ?>" <?= $invalid('amount') ?>>
<button name="amount" value="own">Tip</button>
</div>
<?php $error('amount') ?>
</form>
<?php
}

/** What a tip does, and the other way to give one. */
function purpose_fragment(array $settings, bool $offers_address): void
{
    $shop = $settings['shop'];
    if ($shop === null) {
        return;
    }
    ?>
<footer>
<?php if ($offers_address && $settings['address'] !== null): ?>
<p>Wallets also pay to the Lightning Address <a href="lightning:<?= $settings['lnurl'] ?>"><?= e($settings['address']) ?></a>.</p>
<?php endif ?>
<p>Tips pay for the hosting of <?= e($settings['site'] ?? 'this site') ?> at <a href="<?= e($shop) ?>" rel="noreferrer"><?= e(host_of($shop)) ?></a>, and for nothing else.</p>
</footer>
<?php
}

function wallet_fragment(array $settings): void
{
    ?>
<section class="pay">
<?php qr($settings['qr'], 'QR code of this Lightning Address') ?>
<a class="button" href="lightning:<?= $settings['lnurl'] ?>">Open in wallet</a>
<label for="address">Lightning Address</label>
<div class="row">
<input id="address" readonly value="<?= e($settings['address']) ?>">
<button type="button" class="copy" data-copies="address">Copy</button>
</div>
</section>
<footer><p>Pay this address from your wallet, and choose the amount there.</p></footer>
<?php
}

function trouble_fragment(array $settings, string $trouble, string $more = ''): void
{
    $has_address = $settings['mode'] === 'site' && $settings['address'] !== null;
    $for_owner = words_for_owner($trouble);
    ?>
<div class="trouble" role="alert">
<p><?= e(words()[$trouble]), $more === '' ? '' : ' ' . e($more) ?></p>
<?php if ($for_owner !== null): ?>
<p><small>For the owner of this site: <?= e($for_owner) ?></small></p>
<?php endif ?>
</div>
<?php if ($has_address && !in_array($trouble, ['400', '409', 'unknown'], true)): ?>
<section class="pay">
<p>Your wallet can also pay to this Lightning Address:</p>
<?php qr($settings['qr'], 'QR code of this Lightning Address') ?>
<p class="address"><a href="lightning:<?= $settings['lnurl'] ?>"><?= e($settings['address']) ?></a></p>
</section>
<?php endif;
}

function invoice_fragment(array $tip): void
{
    ?>
<h1>Tip <?= sats(intdiv($tip['msat'], 1000)) ?> sat</h1>
<section class="pay">
<?php qr($tip['qr'], 'QR code of the invoice') ?>
<a class="button" href="lightning:<?= $tip['invoice'] ?>">Open in wallet</a>
<label for="invoice">Invoice</label>
<textarea id="invoice" class="code" rows="4" readonly><?= $tip['invoice'] ?></textarea>
<button type="button" class="copy" data-copies="invoice">Copy the invoice</button>
</section>
<p role="status">Waiting for your payment<?= $tip['expires_at'] === null ? '' : ', until ' . gmdate('H:i', $tip['expires_at']) . ' UTC' ?>. This page sees it by itself.</p>
<p><a href="?">Choose another amount</a></p>
<?php
}

function state_fragment(array $settings, array $tip): void
{
    $sat = sats(intdiv($tip['msat'], 1000)) . ' sat';
    $until = $tip['paid_until'] === null ? null : gmdate('j F Y', $tip['paid_until']);
    $site = $settings['site'] ?? 'This site';
    $applied = $until === null ? 'It keeps this site online.' : "$site is paid until $until now.";
    $says = [
        'checking' => 'This invoice can no longer be paid. The shop is checking for a last-second payment…',
        'paid' => "$sat received. " . ($tip['is_applied'] ? $applied : 'The tip takes effect in a moment.'),
        'expired' => 'Nobody paid it in time, and nothing was charged.',
        'late' => "$sat arrived when this site could take no more tips. "
            . 'Whoever runs the shop is told of it.',
    ];
    ?>
<header>
<?= bolt() ?>

<h1><?= e(tip_title($tip)) ?></h1>
<p role="status"><?= e($says[$tip['state']]) ?></p>
</header>
<p><a class="button plain" href="?"><?= $tip['state'] === 'expired' ? 'Try again' : 'Back' ?></a></p>
<?php
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

function script(): string
{
    return <<<'JS'

// Without this script the page reloads by itself, and texts can be selected.
if (navigator.clipboard) document.documentElement.classList.add("can-copy");
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copies]");
  if (!button) return;
  const label = button.dataset.label ??= button.textContent;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copies).value);
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = label; }, 2000);
});
// Look until there is nothing to wait for; if the shop does not answer, the invoice stays.
let seconds = 3;
async function look() {
  const here = document.getElementById("tip");
  if (!here.dataset.waits) return;
  try {
    const page = document.hidden ? "" : await (await fetch(location.href)).text();
    const there = new DOMParser().parseFromString(page, "text/html");
    const tip = there.getElementById("tip");
    if (tip && tip.dataset.state !== "trouble" && tip.dataset.state !== here.dataset.state) {
      document.title = there.title;
      here.replaceWith(tip);
    }
  } catch { /* no network: look again */ }
  seconds = Math.min(seconds * 1.1, 15);
  setTimeout(look, seconds * 1000);
}
setTimeout(look, seconds * 1000);

JS;
}
