<?php
// lightning-space paid area UNSTAMPED
//
// The gate of a paid area: whoever pays over Lightning may read its files for a while. They lie where
// no web server shows them, in private/paid/<name>/ of the site, and this program serves them itself.
// Invoices come from the owner's Lightning Address. A program proves its payment by the preimage (L402),
// a browser has a cookie, and the wallet says whether its invoice is paid (LUD-21).
//
// The settings are in paidarea.json beside this file; the shop writes them. You may edit both files:
// they are yours then, and nobody overwrites them. What this program has to remember is in
// private/.paid/<name>/ of the site: delete the file `key` there, and nobody's payment counts any more.
//
// For PHP 7.4 to 8.4, without extensions; see the notes in the tip jar's program.

const SETTINGS = __DIR__ . '/paidarea.json';
const BYTES_MAX = 64 * 1024;    // of the settings, and of a wallet's answer
const SECONDS_MAX = 5;          // for each of the two questions to a wallet
const AGENT = 'lightning-space paid area';
const LOOK_SECONDS = 8;         // after which the page looks by itself: somebody may be copying there
const ASK_SECONDS = 3;          // at least, between two questions about a payment
const LATE_SECONDS = 60;        // the same, once its invoice has expired
const OFFERED_SECONDS = 3600;   // how long an invoice is offered at most,
const PAYABLE_SECONDS = 86400;  // and how long it may be paid all the same, if its wallet takes it
const KEPT_SECONDS = 3600;      // how long a payment may still come in after that
const CROWD = 2000;             // with so many of them, browsers' invoices are not kept that long
const ASKING_MAX = 2;           // visitors for whom a wallet is asked at the same time
const WINDOW_SECONDS = 600;     // in which so many invoices are made:
const PER_NETWORK_MAX = 20;
const INVOICES_MAX = 200;
const CREDENTIAL_MAX = 8192;    // bytes
const SAT_MAX = 100000000;      // one bitcoin
const PART_BYTES = 65536;

// No warning may ever reach a page or a file, whatever php.ini says; the server's log still has it.
if (function_exists('ini_set')) {
    ini_set('display_errors', '0');
    ini_set('zlib.output_compression', '0');
}
// Discard what PHP printed before this line.
if (ob_get_length()) {
    ob_clean();
}
run();

// -- what is asked for -------------------------------------------------------------------

function run(): void
{
    try {
        answer(settings());
    } catch (Trouble $trouble) {
        refuse($trouble->getMessage());
    }
}

function answer(array $settings): void
{
    $method = $_SERVER['REQUEST_METHOD'] ?? 'GET';
    $is_form = $method === 'POST' && wants_page();
    $from = parameter($_SERVER, 'HTTP_SEC_FETCH_SITE');
    if ($is_form && $from !== '' && $from !== 'same-origin') {  // another site's form
        problem(403);
        return;
    }
    if ($method !== 'GET' && $method !== 'HEAD' && !$is_form) {
        header('Allow: GET, HEAD');
        problem($method === 'OPTIONS' ? 204 : 405);
        return;
    }
    $path = asked_path();
    if ($path === null) {
        missing();
        return;
    }
    $found = found($path);
    $shown = shown_credentials();
    if ($shown !== null) {
        answer_program($settings, $found, judged($shown));
        return;
    }
    $visit = visit($settings);
    if ($visit !== null && $visit['until'] !== null) {
        serve($found, $visit['until']);
    } elseif ($found === null) {  // nobody pays for what is not there
        missing();
    } elseif ($is_form) {
        begin_visit($settings, $visit);
    } elseif ($method === 'HEAD' || is_a_part()) {
        problem(402);
    } elseif (wants_page()) {
        show_visit($settings, $visit);
    } else {
        challenge($settings, null);
    }
}

/** `$judged`: see judged(). */
function answer_program(array $settings, ?array $found, array $judged): void
{
    if ($judged['until'] !== null) {
        serve($found, $judged['until']);
    } elseif (!$judged['was_ours']) {
        header('WWW-Authenticate: L402');
        problem(401);
    } elseif ($found === null) {
        missing();
    } elseif (($_SERVER['REQUEST_METHOD'] ?? '') === 'HEAD') {
        problem(402);
    } else {
        challenge($settings, $judged['token_id']);
    }
}

/** Whether it is a browser that asks: programs want anything, or say what else. */
function wants_page(): bool
{
    return strpos(parameter($_SERVER, 'HTTP_ACCEPT'), 'text/html') !== false;
}

/**
 * Whether a browser asks for it as a part of some page, such as a picture, or by the script of another
 * site: nobody sees an invoice then.
 */
function is_a_part(): bool
{
    $as = parameter($_SERVER, 'HTTP_SEC_FETCH_DEST');
    $from = parameter($_SERVER, 'HTTP_SEC_FETCH_SITE');
    $is_ours = in_array($from, ['', 'none', 'same-origin'], true);
    return $as === 'empty' ? !$is_ours : $as !== '' && $as !== 'document';
}

/**
 * The path below the area, "" for the area itself; null for any that is not written plainly.
 *
 * Only the address as it was sent decides, read once: each server makes something else of PATH_INFO.
 */
function asked_path(): ?string
{
    $sent = explode('?', parameter($_SERVER, 'REQUEST_URI'), 2)[0];
    $path = rawurldecode((string) preg_replace('#^https?://[^/]*#i', '', $sent));
    $base = base();
    if (strncmp($path, $base, strlen($base)) !== 0) {
        return null;
    }
    $path = substr($path, strlen($base));
    if ($path === 'index.php' || strncmp($path, 'index.php/', 10) === 0) {
        $path = (string) substr($path, 10);
    }
    if ($path === '') {
        return '';
    }
    // No control characters, nothing empty between slashes, and no name with a dot in front: so no "..".
    $is_plain = preg_match('#^(?:[^/.\x00-\x1f\x7f\\\\][^/\x00-\x1f\x7f\\\\]*(?:/(?!$)|/?$))+$#D', $path);
    return $is_plain && strlen($path) <= 1024 ? $path : null;
}

/** The area's address below the site, such as /members/. */
function base(): string
{
    return rtrim(str_replace('\\', '/', dirname(parameter($_SERVER, 'SCRIPT_NAME'))), '/') . '/';
}

/**
 * What is at this path of the area: "file", or "moved" if that is a directory asked for without its
 * slash, or otherwise than its links need. The area itself is there if anything is in it. null: nothing
 * that is shown.
 */
function found(string $path): ?array
{
    // @: PHP warns of what leads out of where it may go.
    $root = @realpath(dirname(__DIR__, 2) . '/private/paid/' . basename(__DIR__));
    if ($root === false || !is_dir($root) || !is_readable($root)) {
        throw new Trouble('folder');
    }
    $at = @realpath("$root/$path");
    $is_inside = $at !== false && ($at === $root || strncmp($at, "$root/", strlen($root) + 1) === 0);
    if (!$is_inside) {
        return null;
    }
    if (is_dir($at)) {
        if ($path !== '' && substr($path, -1) !== '/') {
            return ['moved' => (string) substr("/$path", (int) strrpos("/$path", '/') + 1), 'file' => null];
        }
        foreach (['index.html', 'index.htm'] as $name) {
            $index = found(rtrim($path, '/') === '' ? $name : rtrim($path, '/') . "/$name");
            if ($index !== null && $index['file'] !== null) {
                return $path === '' && !leads_on() ? ['moved' => 'index.php', 'file' => null] : $index;
            }
        }
        $is_open = $path === '' && preg_grep('/^[^.]/', @scandir($at) ?: []);
        return $is_open ? ['moved' => null, 'file' => null] : null;
    }
    $is_shown = is_file($at) && is_readable($at) && substr($path, -1) !== '/';
    return $is_shown ? ['moved' => null, 'file' => $at] : null;
}

/** Whether links on the area's first page lead to its files, where they say no more than a name. */
function leads_on(): bool
{
    $sent = explode('?', parameter($_SERVER, 'REQUEST_URI'), 2)[0];
    return substr($sent, -11) === '/index.php/' || is_file(__DIR__ . '/.htaccess');
}

// -- settings ------------------------------------------------------------------------------

function settings(): array
{
    $found = settings_file();
    $shop = shop_url($found['shop'] ?? null);
    $address = lightning_address($found['address'] ?? null, $shop);
    $price = whole($found['price_sat'] ?? null);
    $seconds = whole($found['seconds'] ?? null);
    $is_whole = $shop !== null && $address !== null && substr((string) $address, -6) !== '.onion'
        && $price !== null && $price >= 1 && $price <= SAT_MAX && $seconds !== null && $seconds >= 60;
    if (!$is_whole) {
        throw new Trouble('unset');
    }
    $site = matching('/^[a-z0-9.-]{1,253}$/D', $found['site'] ?? null) ?? 'this site';
    return [
        'shop' => $shop,
        'site' => $site,
        'title' => text($found['title'] ?? null, 120) ?? $site . '/' . basename(__DIR__),
        'price' => $price,
        'seconds' => $seconds,
        'address' => $address,
        'keeps_site_online' => ($found['keeps_site_online'] ?? null) === true,
        'programs_only' => ($found['programs_only'] ?? null) === true,
        'network' => matching('/^(bc|tb|tbs|bcrt)$/D', $found['network'] ?? null) ?? 'bc',
    ];
}

/** How long is sold, in words. */
function span(int $seconds): string
{
    foreach (['day' => 86400, 'hour' => 3600, 'minute' => 60] as $unit => $length) {
        $number = intdiv($seconds, $length);
        if ($number * $length === $seconds || $unit === 'minute') {
            return sats($number) . " $unit" . ($number === 1 ? '' : 's');
        }
    }
    return '';
}

// -- programs: L402 ------------------------------------------------------------------------

/** Ask for payment. `$token_id`: that of a credential which was shown, and is over. */
function challenge(array $settings, ?string $token_id): void
{
    $invoice = new_invoice($settings);
    // Counted from the end of the invoice: whoever pays in its last second has all of the time.
    $until = $invoice['expires'] + $settings['seconds'];
    $identifier = "\0\0" . $invoice['hash'] . ($token_id ?? random_bytes(32));
    $name = basename(__DIR__);
    $caveats = ["services=$name:0", "{$name}_valid_until=$until"];
    $macaroon = base64_encode(minted(root_key($identifier), $identifier, $caveats));
    $both = "macaroon=\"$macaroon\", invoice=\"{$invoice['text']}\"";
    header("WWW-Authenticate: LSAT $both");
    header("WWW-Authenticate: L402 $both, version=\"0\", token=\"$macaroon\"", false);
    problem(402, [
        'detail' => 'Pay the invoice, then send: Authorization: L402 <macaroon>:<preimage>',
        'price_msat' => $settings['price'] * 1000,
        'seconds' => $settings['seconds'],
        'methods' => ['GET', 'HEAD'],
        'invoice' => $invoice['text'],
        'macaroon' => $macaroon,
        'expires_at' => gmdate('Y-m-d\TH:i:s\Z', $invoice['expires']),
        'browsers' => $invoice['verify'] !== null,
    ]);
}

/** The macaroons and preimages that were sent; null if none of this kind was. */
function shown_credentials(): ?array
{
    // The second where a rewrite has led here, and both where .htaccess sets the first as well.
    $sent = parameter($_SERVER, 'HTTP_AUTHORIZATION') ?: parameter($_SERVER, 'REDIRECT_HTTP_AUTHORIZATION');
    if (!preg_match('/\b(?:L402|LSAT)\b/i', $sent)) {
        return null;
    }
    $form = '#\b(?:L402|LSAT)\s+([A-Za-z0-9+/_-]+={0,2})\s*:\s*([0-9a-f]{64})(?![0-9a-z])#i';
    $is_short = strlen($sent) <= CREDENTIAL_MAX;
    return $is_short && preg_match_all($form, $sent, $found, PREG_SET_ORDER) ? $found : [];
}

/**
 * "until" when the best of these gives access. Without one, "was_ours" says that a credential was paid
 * for here and is over, or is for something else: it may be paid for again, under its "token_id".
 */
function judged(array $shown): array
{
    $judged = ['until' => null, 'was_ours' => false, 'token_id' => null];
    foreach ($shown as [, $text, $preimage]) {
        $macaroon = read_macaroon($text);
        $hash = hash('sha256', (string) hex2bin($preimage), true);
        if ($macaroon === null || !hash_equals($macaroon['hash'], $hash)) {
            continue;
        }
        $until = marked($macaroon, $text) ?? verified($macaroon, $text);
        if ($until !== null && $until > time()) {
            return ['until' => $until, 'was_ours' => true, 'token_id' => null];
        }
        if ($until !== null) {
            $judged = ['until' => null, 'was_ours' => true, 'token_id' => $macaroon['token_id']];
        }
    }
    return $judged;
}

/** As verified(), of a credential that has been here before: its marker says it. */
function marked(array $macaroon, string $text): ?int
{
    $kept = (string) @file_get_contents(kept('programs/' . bin2hex($macaroon['hash'])));
    $is_same = hash_equals((string) substr($kept, 11), hash_hmac('sha256', $text, master_key()));
    return $is_same ? (int) substr($kept, 0, 10) : null;
}

/** Until when it is valid, 0 if it is ours and opens nothing here; null if it is not ours. */
function verified(array $macaroon, string $text): ?int
{
    $signature = signature(root_key($macaroon['identifier']), $macaroon['identifier'], $macaroon['caveats']);
    if (!hash_equals($signature, $macaroon['signature'])) {
        return null;
    }
    $until = allowed_until($macaroon['caveats']);
    if ($until > time()) {
        // One for each payment, however many caveats its holder adds; without, it is verified again.
        $marker = sprintf('%010d %s', $until, hash_hmac('sha256', $text, master_key()));
        is_kept('programs/' . bin2hex($macaroon['hash']), $marker);
    }
    return $until;
}

/** What its caveats allow: each may only narrow those before. Others' are skipped, as everywhere. */
function allowed_until(array $caveats): int
{
    $name = basename(__DIR__);
    $services = null;
    $until = null;
    foreach ($caveats as $caveat) {
        [$condition, $value] = explode('=', $caveat, 2) + [1 => ''];
        if ($condition === 'services') {
            $names = [];
            foreach (explode(',', $value) as $service) {
                $names[] = explode(':', $service, 2)[0];
            }
            if ($services !== null && array_diff($names, $services)) {
                return 0;
            }
            $services = $names;
        } elseif ($condition === "{$name}_valid_until") {
            $at = preg_match('/^\d{1,10}$/D', $value) ? (int) $value : 0;
            if ($until !== null && $at > $until) {
                return 0;
            }
            $until = $at;
        }
    }
    return $services !== null && in_array($name, $services, true) ? (int) $until : 0;
}

function root_key(string $identifier): string
{
    return hash_hmac('sha256', "root\0" . hash('sha256', $identifier, true), master_key(), true);
}

function signature(string $root, string $identifier, array $caveats): string
{
    $key = hash_hmac('sha256', $root, 'macaroons-key-generator', true);
    $signature = hash_hmac('sha256', $identifier, $key, true);
    foreach ($caveats as $caveat) {
        $signature = hash_hmac('sha256', $caveat, $signature, true);
    }
    return $signature;
}

/** A macaroon in libmacaroons' binary format V2. */
function minted(string $root, string $identifier, array $caveats): string
{
    $packed = "\x02" . field(1, 'lsat') . field(2, $identifier) . "\0";
    foreach ($caveats as $caveat) {
        $packed .= field(2, $caveat) . "\0";
    }
    return $packed . "\0" . field(6, signature($root, $identifier, $caveats));
}

function field(int $type, string $value): string
{
    $length = strlen($value);
    $low = $length > 127 ? chr($length & 127 | 128) . chr($length >> 7) : chr($length);
    return chr($type) . $low . $value;
}

/** Read base64, standard or URL-safe, padded or not; null unless it has the parts of ours. */
function read_macaroon(string $text): ?array
{
    $packed = base64_decode(strtr(rtrim($text, '='), '-_', '+/'), true);
    if ($packed === false || strlen($packed) > 4096 || strncmp($packed, "\x02", 1) !== 0) {
        return null;
    }
    $types = '';
    $values = [];
    for ($at = 1; $at < strlen($packed);) {
        $type = $packed[$at++];
        $types .= $type;
        if ($type === "\0") {
            continue;
        }
        $length = 0;
        for ($shift = 0; $shift <= 14; $shift += 7) {
            $byte = ord($packed[$at++] ?? "\xff");
            $length |= ($byte & 127) << $shift;
            if ($byte < 128) {
                break;
            }
        }
        if ($byte > 127 || $at + $length > strlen($packed)) {
            return null;
        }
        $values[] = [$type, substr($packed, $at, $length)];
        $at += $length;
    }
    if (!preg_match('/^\x01?\x02\0(?:\x02\0){0,32}\0\x06$/D', $types)) {
        return null;
    }
    $parts = array_column(array_filter($values, function (array $value): bool {
        return $value[0] !== "\x01";
    }), 1);
    $identifier = array_shift($parts);
    $signature = array_pop($parts);
    if (strlen($identifier) !== 66 || strncmp($identifier, "\0\0", 2) !== 0 || strlen($signature) !== 32) {
        return null;
    }
    return [
        'identifier' => $identifier,
        'hash' => substr($identifier, 2, 32),
        'token_id' => substr($identifier, 34),
        'caveats' => $parts,
        'signature' => $signature,
    ];
}

// -- browsers: a cookie ----------------------------------------------------------------------

/**
 * This browser's payment: "until" when it has access, null while it has not paid. Asks the wallet, but
 * not too often. null: none that counts.
 */
function visit(array $settings): ?array
{
    $cookie = matching('/^[0-9a-f]{32}$/D', $_COOKIE['paid'] ?? null);
    if ($cookie === null) {
        return null;
    }
    $name = 'visits/' . hash('sha256', $cookie);
    $visit = kept_visit($name);
    $asking = $visit !== null && is_to_be_looked_at($visit) ? turn() : null;
    if ($asking === null) {
        return $visit;
    }
    $lock = locked('lock', LOCK_EX);
    $visit = kept_visit($name) ?? $visit;  // another request may have been quicker
    if (!is_to_be_looked_at($visit)) {
        return $visit;
    }
    $visit['looked'] = time();
    is_kept($name, (string) json_encode($visit));
    $lock = null;
    if (is_paid($settings, $visit)) {
        $visit['until'] = time() + $visit['seconds'];
        // In a full space it is not: who has paid is let in all the same, and the wallet asked again.
        $lock = locked('lock', LOCK_EX);
        is_kept($name, (string) json_encode($visit));
    }
    return $visit;
}

/** null: there is none, or its time is over. */
function kept_visit(string $name): ?array
{
    $visit = json_decode((string) @file_get_contents(kept($name)), true, 4);
    return is_array($visit) && ($visit['until'] ?? INF) > time() ? $visit : null;
}

/** Whether the wallet may be asked of it now. */
function is_to_be_looked_at(array $visit): bool
{
    $gap = time() > $visit['expires'] ? LATE_SECONDS : ASK_SECONDS;
    $is_late = time() > $visit['payable'] + KEPT_SECONDS;
    return $visit['until'] === null && !$is_late && abs(time() - $visit['looked']) >= $gap;
}

/** The wallet's word counts only if it speaks of this very invoice (LUD-21). */
function is_paid(array $settings, array $visit): bool
{
    try {
        [$status, $text] = ask('GET', outgoing($settings, $visit['verify']));
        $said = $status === 200 ? read_json($text) : [];
    } catch (Trouble $trouble) {
        return false;  // looked at again in a moment
    }
    $invoice = $said['pr'] ?? null;
    $is_this = $invoice === null || (is_string($invoice) && strtolower($invoice) === $visit['invoice']);
    $preimage = $said['preimage'] ?? null;
    if ($preimage !== null && $preimage !== '') {
        $is_hex = matching('/^[0-9a-f]{64}$/Di', $preimage) !== null;
        $is_this = $is_this && $is_hex && hash('sha256', (string) hex2bin($preimage)) === $visit['hash'];
    }
    return $is_this && ($said['settled'] ?? null) === true;
}

/**
 * Get an invoice, unless there is one that can still be paid, and redirect to it. It buys what is for
 * sale now, whatever its owner changes meanwhile.
 */
function begin_visit(array $settings, ?array $visit): void
{
    if ($visit === null || $visit['expires'] < time() + LATE_SECONDS) {
        $invoice = new_invoice($settings);
        if ($invoice['verify'] === null) {
            throw new Trouble('programs');
        }
        $cookie = bin2hex(random_bytes(16));
        keep('visits/' . hash('sha256', $cookie), (string) json_encode([
            'invoice' => $invoice['text'],
            'hash' => bin2hex($invoice['hash']),
            'verify' => $invoice['verify'],
            'expires' => $invoice['expires'],
            'payable' => $invoice['payable'],
            'price' => $settings['price'],
            'seconds' => $settings['seconds'],
            'looked' => time(),
            'until' => null,
        ]));
        $is_https = !in_array(strtolower(parameter($_SERVER, 'HTTPS')), ['', 'off'], true);
        setcookie('paid', $cookie, [
            'expires' => $invoice['payable'] + KEPT_SECONDS + $settings['seconds'],
            'path' => base(),
            'secure' => $is_https,
            'httponly' => true,
            'samesite' => 'Lax',
        ]);
    }
    send_page_headers();
    header('Location: ?pay', true, 303);
}

// -- the wallet --------------------------------------------------------------------------------

/**
 * A new invoice over the price: "text", "hash" (bytes), "expires", until when it is offered, "payable",
 * until when its wallet may take it, and "verify", where that says whether it is paid; null if it never
 * does.
 */
function new_invoice(array $settings): array
{
    $asking = turn();
    if ($asking === null) {
        throw new Trouble('busy');
    }
    take_place();
    $msat = $settings['price'] * 1000;
    $offer = asked_wallet($settings, url_of_address($settings['address'], $settings['shop']));
    $is_offer = ($offer['tag'] ?? null) === 'payRequest' && is_string($offer['callback'] ?? null);
    $least = $offer['minSendable'] ?? null;
    $most = $offer['maxSendable'] ?? null;
    $are_numbers = (is_int($least) || is_float($least)) && (is_int($most) || is_float($most));
    if (!$is_offer || !$are_numbers) {
        throw new Trouble('odd');
    }
    if ($msat < $least || $msat > $most) {
        throw new Trouble('amount');
    }
    $callback = outgoing($settings, $offer['callback']);
    $amount = (strpos($callback, '?') === false ? '?' : '&') . "amount=$msat";
    $made = asked_wallet($settings, $callback . $amount);
    $text = is_string($made['pr'] ?? null) ? strtolower($made['pr']) : '';
    $invoice = read_invoice($text);
    if ($invoice === null || $invoice['amount'] !== $msat * 10.0 || $invoice['expires'] < time() + 30) {
        throw new Trouble('odd');
    }
    if ($invoice['network'] !== $settings['network']) {
        throw new Trouble('network');
    }
    $verify = is_string($made['verify'] ?? null) ? $made['verify'] : null;
    if ($verify === null && !$settings['programs_only']) {
        throw new Trouble('no_verify');
    }
    note_invoice($invoice['hash']);
    return [
        'text' => $text,
        'hash' => $invoice['hash'],
        'expires' => min($invoice['expires'], time() + OFFERED_SECONDS),
        'payable' => min($invoice['expires'], time() + PAYABLE_SECONDS),
        'verify' => $verify === null ? null : outgoing($settings, $verify),
    ];
}

/** Some addresses lead on to a wallet elsewhere: that far they are followed, but not around. */
function asked_wallet(array $settings, string $url, int $turns = 2): array
{
    [$status, $text, $leads_to] = ask('GET', $url);
    if ($leads_to !== '' && $turns > 0) {
        return asked_wallet($settings, outgoing($settings, $leads_to), $turns - 1);
    }
    if ($status !== 200) {
        throw new Trouble($status === 404 ? 'nobody' : 'odd');
    }
    $said = read_json($text);
    if (strtoupper(is_string($said['status'] ?? null) ? $said['status'] : '') === 'ERROR') {
        throw new Trouble('refused');
    }
    return $said;
}

/** An address that a wallet names, which must lead to where everybody may go. */
function outgoing(array $settings, string $url): string
{
    $name = '(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]';
    // Without TLS only on this machine, where the shop is tried out.
    $local = strncmp($settings['shop'], 'http:', 5) === 0 ? '|' . preg_quote($settings['shop'], '#') : '';
    if (!preg_match("#^(?:https://$name(?::\d{1,5})?$local)/[!\"$-~]{0,2000}$#Di", $url)) {
        throw new Trouble('odd');
    }
    return $url;
}

/** What a BOLT 11 invoice says: "network", "amount" as invoice_amount(), "hash", "expires". */
function read_invoice(string $text): ?array
{
    $amount = invoice_amount($text);
    if ($amount === null) {
        return null;
    }
    $end = (int) strrpos($text, '1');
    $words = [];
    foreach (str_split(substr($text, $end + 1)) as $letter) {
        $words[] = strpos('qpzry9x8gf2tvdw0s3jn54khce6mua7l', $letter);
    }
    $high = $low = [];
    foreach (str_split(substr($text, 0, $end)) as $letter) {
        $high[] = ord($letter) >> 5;
        $low[] = ord($letter) & 31;
    }
    if (bech32_sum(array_merge($high, [0], $low, $words)) !== 1) {
        return null;
    }
    $number = function (array $words): int {
        return (int) array_reduce($words, function (int $sum, int $word): int {
            return $sum * 32 + $word;
        }, 0);
    };
    $hash = null;
    $seconds = 3600;
    // Behind the time the tagged fields; the signature and the checksum come last.
    for ($at = 7; $at + 3 <= count($words) - 110; $at += 3 + $length) {
        $length = $words[$at + 1] * 32 + $words[$at + 2];
        $value = array_slice($words, $at + 3, $length);
        if ($words[$at] === 1 && $length === 52 && $hash === null) {
            $bits = '';
            foreach ($value as $word) {
                $bits .= sprintf('%05b', $word);
            }
            $hash = implode(array_map('chr', array_map('bindec', str_split(substr($bits, 0, 256), 8))));
        } elseif ($words[$at] === 6 && $length <= 6) {
            $seconds = $number($value);
        }
    }
    preg_match('/^ln(bcrt|bc|tbs|tb)/', $text, $network);
    return $hash === null ? null : [
        'network' => $network[1],
        'amount' => $amount,
        'hash' => $hash,
        'expires' => $number(array_slice($words, 0, 7)) + $seconds,
    ];
}

// -- what is kept --------------------------------------------------------------------------------

/** The path of what this program keeps under a name. */
function kept(string $name): string
{
    return dirname(__DIR__, 2) . '/private/.paid/' . basename(__DIR__) . "/$name";
}

function keep(string $name, string $text): void
{
    if (!is_kept($name, $text)) {
        throw new Trouble('full');
    }
}

/** Keep it whole or not at all, for nobody but the owner. */
function is_kept(string $name, string $text): bool
{
    $path = kept($name);
    if (!is_dir(dirname($path))) {
        @mkdir(dirname($path), 0700, true);
    }
    $new = $path . '.' . bin2hex(random_bytes(6)) . '.new';
    $is_written = @file_put_contents($new, $text) === strlen($text);
    if (!$is_written || !@chmod($new, 0600) || !@rename($new, $path)) {
        @unlink($new);
        return false;
    }
    return true;
}

/** The one that all credentials are signed with. */
function master_key(): string
{
    static $key = null;
    if ($key === null) {
        $key = (string) @file_get_contents(kept('key'));
        if (strlen($key) !== 64) {
            $lock = locked('lock', LOCK_EX);
            $key = (string) @file_get_contents(kept('key'));  // of whoever was quicker
            if (strlen($key) !== 64) {
                keep('key', $key = bin2hex(random_bytes(32)));
            }
        }
    }
    return $key;
}

/** The lock of this name, for as long as it is held; null if it is taken (LOCK_NB). */
function locked(string $name, int $how)
{
    if (!is_dir(kept(''))) {
        @mkdir(kept(''), 0700, true);
    }
    $file = @fopen(kept($name), 'c');
    if (!$file) {
        throw new Trouble('full');
    }
    return flock($file, $how) ? $file : null;
}

/** One of the few places to ask the wallet, while it is held: a slow one holds up nobody else. */
function turn()
{
    for ($number = 1; $number <= ASKING_MAX; $number++) {
        $place = locked("asking-$number", LOCK_EX | LOCK_NB);
        if ($place !== null) {
            return $place;
        }
    }
    return null;
}

/** Count an invoice for this visitor's network, so that nobody floods the owner's wallet. */
function take_place(): void
{
    $of = network();
    $lock = locked('lock', LOCK_EX);
    $recent = recent();
    $places = array_count_values(array_column($recent, 1)) + [$of => 0];
    if ($places[$of] >= PER_NETWORK_MAX || count($recent) >= INVOICES_MAX) {
        throw new Trouble('many');
    }
    keep('recent', implode("\n", array_map(function (array $each): string {
        return implode(' ', $each);
    }, array_merge($recent, [[time(), $of]]))));
    if (random_int(1, 20) === 1) {
        clear_away();
    }
}

/** The invoices of the last minutes: when, for which network, and the hash of a payment. */
function recent(): array
{
    $recent = [];
    foreach (explode("\n", (string) @file_get_contents(kept('recent'))) as $line) {
        $parts = explode(' ', $line);
        if (count($parts) >= 2 && abs(time() - (int) $parts[0]) < WINDOW_SECONDS) {
            $recent[] = $parts;
        }
    }
    return $recent;
}

/** No invoice is handed out twice: who pays it would let two in. */
function note_invoice(string $hash): void
{
    $lock = locked('lock', LOCK_EX);
    $hash = substr(bin2hex($hash), 0, 32);
    $known = (string) @file_get_contents(kept('hashes'));
    if (strpos($known, $hash) !== false) {
        throw new Trouble('odd');
    }
    keep('hashes', substr($hash . $known, 0, 32 * INVOICES_MAX * 6));
}

/** The visitor's network, /24 or /48, as nobody can read it. */
function network(): string
{
    // IPv4, as a server writes it that listens to both at one port.
    $sent = preg_replace('/^::ffff:(?=\d+\.)/i', '', parameter($_SERVER, 'REMOTE_ADDR'));
    $address = (string) @inet_pton((string) $sent);
    $part = substr($address, 0, strlen($address) === 4 ? 3 : 6);
    return substr(hash_hmac('sha256', "network\0$part", master_key()), 0, 16);
}

/** Forget what is over. */
function clear_away(): void
{
    foreach (['visits', 'programs'] as $what) {
        $names = @scandir(kept($what)) ?: [];
        $end = count($names) > CROWD ? 'expires' : 'payable';
        foreach ($names as $name) {
            $path = kept("$what/$name");
            $text = is_file($path) ? (string) @file_get_contents($path) : '';
            $visit = $what === 'visits' ? json_decode($text, true, 4) : null;
            $until = is_array($visit) ? $visit['until'] ?? $visit[$end] + KEPT_SECONDS : (int) $text;
            if (is_file($path) && $until < time() && filemtime($path) < time() - 60) {
                @unlink($path);
            }
        }
    }
}

// -- files -----------------------------------------------------------------------------------------

/** Send what was found to who has access. */
function serve(?array $found, int $until): void
{
    header('Cache-Control: private, no-cache');
    header('Vary: Authorization, Cookie');
    header('X-Content-Type-Options: nosniff');
    header_remove('X-Powered-By');
    if ($found === null) {
        missing();
    } elseif ($found['moved'] !== null) {
        header('Location: ' . rawurlencode($found['moved']) . '/', true, 302);
    } elseif ($found['file'] === null) {
        page('You are in', 200, function () use ($until) {
            echo '<p>You have access until ', gmdate('j F Y, H:i', $until), " UTC.</p>\n";
            echo "<p>There is no start page here: open the address of a file.</p>\n";
        });
    } else {
        send_file($found['file']);
    }
}

function send_file(string $path): void
{
    $file = @fopen($path, 'rb');
    $facts = $file ? fstat($file) : false;
    if (!$facts) {
        missing();
        return;
    }
    $size = $facts['size'];
    $tag = sprintf('"%x-%x-%x"', $facts['ino'], $facts['mtime'], $size);
    header('Content-Type: ' . type_of($path));
    header("ETag: $tag");
    header('Last-Modified: ' . gmdate('D, d M Y H:i:s', $facts['mtime']) . ' GMT');
    header('Accept-Ranges: bytes');
    if (is_unchanged($tag, $facts['mtime'])) {
        http_response_code(304);
        return;
    }
    [$from, $to] = asked_range($size, $tag, $facts['mtime']) ?? [0, $size - 1];
    if ($from > $to && $size > 0) {
        header("Content-Range: bytes */$size");
        header_remove('ETag');
        problem(416);
        return;
    }
    if ($to - $from + 1 < $size) {
        header("Content-Range: bytes $from-$to/$size");
        http_response_code(206);
    }
    header('Content-Length: ' . ($to - $from + 1));
    if (($_SERVER['REQUEST_METHOD'] ?? '') !== 'HEAD') {
        pour($file, $from, $to - $from + 1);
    }
}

function pour($file, int $from, int $left): void
{
    if (function_exists('set_time_limit')) {
        @set_time_limit(0);
    }
    while (ob_get_level() && @ob_end_clean()) {
        continue;
    }
    fseek($file, $from);
    while ($left > 0 && !connection_aborted()) {
        $part = fread($file, min($left, PART_BYTES));
        if ($part === false || $part === '') {
            return;  // it has become shorter
        }
        echo $part;
        flush();
        $left -= strlen($part);
    }
}

function is_unchanged(string $tag, int $changed): bool
{
    $known = parameter($_SERVER, 'HTTP_IF_NONE_MATCH');
    if ($known !== '') {
        // Apache adds the latter where it compresses.
        $tags = array_map('trim', explode(',', str_replace(['W/', '-gzip"'], ['', '"'], $known)));
        return in_array($tag, $tags, true) || trim($known) === '*';
    }
    $since = strtotime(parameter($_SERVER, 'HTTP_IF_MODIFIED_SINCE'));
    return $since !== false && $changed <= $since;
}

/** The bytes that are asked for, the first behind the last if there are none such; null: all. */
function asked_range(int $size, string $tag, int $changed): ?array
{
    $if = parameter($_SERVER, 'HTTP_IF_RANGE');
    $is_same = $if === '' || $if === $tag || strtotime($if) === $changed;
    // Several at once are answered by the whole, as they may be.
    $is_one = preg_match('/^bytes=(\d*)-(\d*)$/D', parameter($_SERVER, 'HTTP_RANGE'), $asked);
    if (!$is_same || !$is_one || $asked[1] . $asked[2] === '' || $_SERVER['REQUEST_METHOD'] !== 'GET') {
        return null;
    }
    if ($asked[1] === '') {
        $last = (int) $asked[2];
        return $last === 0 ? [1, 0] : [max(0, $size - $last), $size - 1];
    }
    $from = (int) $asked[1];
    $to = $asked[2] === '' ? $size - 1 : (int) $asked[2];
    if ($to < $from && $asked[2] !== '') {
        return null;
    }
    return $from >= $size ? [1, 0] : [$from, min($to, $size - 1)];
}

function type_of(string $path): string
{
    $types = [
        'text/html' => 'html htm', 'text/plain; charset=utf-8' => 'txt md log csv',
        'text/css; charset=utf-8' => 'css', 'text/javascript; charset=utf-8' => 'js mjs',
        'text/vtt; charset=utf-8' => 'vtt', 'application/json' => 'json', 'application/xml' => 'xml',
        'application/rss+xml' => 'rss', 'application/pdf' => 'pdf', 'application/epub+zip' => 'epub',
        'application/zip' => 'zip', 'application/gzip' => 'gz tgz', 'application/wasm' => 'wasm',
        'application/vnd.apple.mpegurl' => 'm3u8', 'application/dash+xml' => 'mpd', 'video/mp2t' => 'ts',
        'image/png' => 'png', 'image/jpeg' => 'jpg jpeg', 'image/gif' => 'gif', 'image/webp' => 'webp',
        'image/avif' => 'avif', 'image/svg+xml' => 'svg', 'image/vnd.microsoft.icon' => 'ico',
        'video/mp4' => 'mp4 m4v m4s', 'video/webm' => 'webm', 'video/ogg' => 'ogv',
        'video/quicktime' => 'mov', 'video/x-matroska' => 'mkv', 'audio/mpeg' => 'mp3',
        'audio/mp4' => 'm4a', 'audio/ogg' => 'ogg oga opus', 'audio/flac' => 'flac', 'audio/wav' => 'wav',
        'font/woff2' => 'woff2', 'font/woff' => 'woff', 'font/ttf' => 'ttf',
    ];
    $end = strtolower(pathinfo($path, PATHINFO_EXTENSION));
    foreach ($types as $type => $ends) {
        if ($end !== '' && in_array($end, explode(' ', $ends), true)) {
            return $type;
        }
    }
    return 'application/octet-stream';
}

// -- words -------------------------------------------------------------------------------------------

/** Why nothing can be sold right now: for visitors, and for the owner, who can do something about it. */
function words(): array
{
    return [
        'unset' => ['This area is not set up.', 'paidarea.json beside index.php is missing, or has no '
            . '“shop”, “address”, “price_sat” and “seconds”. Save the area anew at the shop.'],
        'folder' => ['This area has no files.', 'The directory private/paid/' . basename(__DIR__)
            . ' is missing, or PHP may not read it.'],
        'full' => ['This area can sell nothing right now.', 'PHP cannot write into the directory '
            . 'private of the site: its space may be full.'],
        'bare' => ['This area can sell nothing right now.', 'PHP has neither curl nor '
            . 'stream_socket_client with the extension openssl. One of the two is needed.'],
        'many' => ['Too many invoices at once. Please try again in a few minutes.', null],
        'busy' => ['Others are paying right now. Please try again in a moment.', null],
        'down' => ['The wallet does not answer right now. Please try again in a few minutes.', null],
        'odd' => ['The wallet gave an answer that makes no sense, so please pay nothing now.', null],
        'nobody' => ['The wallet knows nobody of this name.', 'The Lightning Address may be mistyped.'],
        'refused' => ['The wallet makes no invoice right now. Please try again in a few minutes.', null],
        'amount' => ['The wallet does not take this price.', 'It is too small or too large for it.'],
        'network' => ['The wallet gave an invoice of another network.', null],
        'no_verify' => ['This area can sell nothing right now.', 'The wallet does not say whether an '
            . 'invoice is paid (LUD-21): only programs could buy. At the shop you can allow just that.'],
        'programs' => ['This area sells to programs only, by L402.', null],
    ];
}

/** Say why not: as a page, or to a program. */
function refuse(string $trouble): void
{
    [$text, $for_owner] = words()[$trouble];
    header('Retry-After: ' . ($trouble === 'busy' ? 3 : 60));
    if (!wants_page()) {
        problem($trouble === 'many' ? 429 : 503, ['detail' => $text, 'reason' => $trouble]);
        return;
    }
    page('Not now', 402, function () use ($text, $for_owner) {
        echo '<div class="trouble" role="alert"><p>', e($text), "</p>\n";
        if ($for_owner !== null) {
            echo '<p><small>For the owner of this site: ', e($for_owner), "</small></p>\n";
        }
        echo "</div>\n<p><a class=\"button plain\" href=\"?\">Try again</a></p>\n";
    });
}

// -- answers -------------------------------------------------------------------------------------------

/** To programs (RFC 9457), and where a page would say no more. */
function problem(int $status, array $more = []): void
{
    $titles = [204 => '', 401 => 'This credential is not valid here', 402 => 'Payment required',
        403 => 'Asked by another site', 404 => 'Not found', 405 => 'Not allowed', 416 => 'No such part', 429 => 'Too many requests',
        503 => 'Not now'];
    header('Cache-Control: no-store');
    header('Vary: Accept, Authorization, Cookie');
    header('X-Content-Type-Options: nosniff');
    header_remove('X-Powered-By');
    header('Content-Type: application/problem+json');
    $said = ['type' => 'about:blank', 'title' => $titles[$status], 'status' => $status] + $more;
    // Last: PHP makes 401 of what has a WWW-Authenticate.
    http_response_code($status);
    if (($_SERVER['REQUEST_METHOD'] ?? '') !== 'HEAD' && $status !== 204) {
        echo json_encode($said, JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE), "\n";
    }
}

function missing(): void
{
    if (!wants_page()) {
        problem(404);
        return;
    }
    page('Nothing is here', 404, function () {
        echo "<p>There is nothing at this address, so nobody pays for it.</p>\n";
    });
}

/** How this browser's payment stands, or what is for sale. */
function show_visit(array $settings, ?array $visit): void
{
    $is_over = $visit !== null && $visit['expires'] < time();
    $title = $settings['title'];
    if ($visit === null) {
        page($title, 402, function () use ($settings) {
            offer_fragment($settings, isset($_GET['pay']));
        });
    } elseif (!$is_over) {
        page($title, 402, function () use ($visit) {
            pay_fragment($visit);
        }, LOOK_SECONDS);
    } else {
        $waits = time() < $visit['expires'] + 2 * LATE_SECONDS ? LATE_SECONDS / 4 : null;
        page($title, 402, function () use ($settings) {
            echo '<p role="status">This invoice has expired. If you have paid it, you are let in as ',
                "soon as the wallet says so: reload this page.</p>\n";
            offer_fragment($settings, false);
        }, $waits);
    }
}

/** `$refresh`: seconds after which the page looks again. */
function page(string $title, int $status, callable $fragment, ?int $refresh = null): void
{
    send_page_headers();
    header('Vary: Accept, Authorization, Cookie');
    http_response_code($status);
    if (($_SERVER['REQUEST_METHOD'] ?? '') === 'HEAD') {
        return;
    }
    ?>
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<?php if ($refresh !== null): ?>
<meta http-equiv="refresh" content="<?= $refresh ?>">
<?php endif ?>
<title><?= e($title) ?></title>
<link rel="icon" href="data:image/svg+xml;base64,<?= base64_encode(bolt()) ?>">
<style><?= style() ?></style>
</head>
<body>
<main>
<header>
<?= bolt() ?>

<h1><?= e($title) ?></h1>
</header>
<?php $fragment() ?>
</main>
</body>
</html>
<?php
}

/** `$has_lost_cookie`: it asked for an invoice a moment ago. */
function offer_fragment(array $settings, bool $has_lost_cookie): void
{
    $price = sats($settings['price']) . ' sat';
    if ($has_lost_cookie) {
        ?>
<div class="trouble" role="alert"><p>Your browser keeps no cookies of this site. Without one you would not be let in, so please allow them first.</p></div>
<?php
    }
    if ($settings['programs_only']) {
        ?>
<p>Programs buy access here by L402: <b><?= $price ?></b> for <b><?= span($settings['seconds']) ?></b>.</p>
<p>For browsers there is no way in: the owner’s wallet does not say what was paid.</p>
<?php
        return;
    }
    ?>
<p><b><?= $price ?></b> for <b><?= span($settings['seconds']) ?></b>, paid over Lightning. No account, no name.</p>
<form method="post" action="?"><button>Pay <?= $price ?></button></form>
<footer>
<p><?= $settings['keeps_site_online'] ? 'What you pay keeps ' . e($settings['site']) . ' online.' : 'You pay the owner of this site directly.' ?> This browser is let in as long as it keeps its cookie.</p>
</footer>
<?php
}

function pay_fragment(array $visit): void
{
    ?>
<p><b><?= sats($visit['price']) ?> sat</b> for <b><?= span($visit['seconds']) ?></b></p>
<section class="pay">
<?php qr(qr_png(strtoupper('lightning:' . $visit['invoice'])), 'QR code of the invoice') ?>
<a class="button" href="lightning:<?= $visit['invoice'] ?>">Open in wallet</a>
<label for="invoice">Invoice</label>
<textarea id="invoice" class="code" rows="4" readonly><?= $visit['invoice'] ?></textarea>
</section>
<p role="status">Waiting for your payment, until <?= gmdate('H:i', $visit['expires']) ?> UTC. This page looks again every few seconds and lets you in.</p>
<p><a class="button plain" href="?pay">I have paid</a></p>
<?php
}

// -- QR codes --------------------------------------------------------------------------------------------

/**
 * A QR code (level L, mask 0) as the data: URL of a PNG, one point for each square: the page enlarges
 * it, and Tor Browser at its safest level shows no SVG. `$text`: capitals, digits and $%*+-./: alone.
 */
function qr_png(string $text): ?string
{
    $rows = qr_rows($text);
    if ($rows === null) {
        return null;
    }
    $side = count($rows) + 8;
    $empty = array_fill(0, 4, array_fill(0, $side, 0));
    $lines = '';
    foreach (array_merge($empty, $rows, $empty) as $row) {
        $bits = '';
        foreach (array_pad(count($row) === $side ? $row : array_merge([0, 0, 0, 0], $row), $side, 0) as $dark) {
            $bits .= 1 - $dark;
        }
        $lines .= "\0" . implode(array_map('chr', array_map('bindec', str_split(str_pad($bits, $side + 7 - ($side + 7) % 8, '0'), 8))));
    }
    $length = strlen($lines);
    $packed = "\x78\x01\x01" . pack('vv', $length, $length ^ 0xffff) . $lines . hash('adler32', $lines, true);
    $png = "\x89PNG\r\n\x1a\n";
    $parts = ['IHDR' => pack('NNCCCCC', $side, $side, 1, 0, 0, 0, 0), 'IDAT' => $packed, 'IEND' => ''];
    foreach ($parts as $name => $part) {
        $png .= pack('N', strlen($part)) . $name . $part . pack('N', crc32($name . $part));
    }
    return 'data:image/png;base64,' . base64_encode($png);
}

/** The squares, 1 for a dark one; null if the text is too long or has other characters. */
function qr_rows(string $text): ?array
{
    $corrections = [7, 10, 15, 20, 26, 18, 20, 24, 30, 18, 20, 24, 26, 30, 22, 24, 28, 30, 28, 28, 28, 28, 30,
        30, 26, 28, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30];
    $counts = [1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 4, 6, 6, 6, 6, 7, 8, 8, 9, 9, 10, 12, 12, 12, 13, 14, 15,
        16, 17, 18, 19, 19, 20, 21, 22, 24, 25];
    if (!preg_match('#^[0-9A-Z $%*+\-./:]+$#D', $text)) {
        return null;
    }
    $length = strlen($text);
    for ($version = 1; $version <= 40; $version++) {
        $between = intdiv($version, 7) + 2;
        $squares = (16 * $version + 128) * $version + 64;
        $squares -= $version < 2 ? 0 : (25 * $between - 10) * $between - 55;
        $bytes = intdiv($squares - ($version < 7 ? 0 : 36), 8);
        $correction = $corrections[$version - 1];
        $count = $counts[$version - 1];
        $room = 8 * ($bytes - $correction * $count);
        $size = $version < 10 ? 9 : ($version < 27 ? 11 : 13);
        if (4 + $size + intdiv($length, 2) * 11 + $length % 2 * 6 <= $room) {
            $bits = sprintf("0010%0{$size}b", $length) . qr_bits($text);
            $bits .= str_repeat('0', min(4, $room - strlen($bits)));
            $bits .= str_repeat('0', (8 - strlen($bits) % 8) % 8);
            $data = array_map('bindec', str_split($bits, 8));
            for ($pad = 0xec; count($data) < $room / 8; $pad ^= 0xec ^ 0x11) {
                $data[] = $pad;
            }
            return qr_drawn($version, qr_interleaved($data, $bytes, $count, $correction));
        }
    }
    return null;
}

function qr_bits(string $text): string
{
    $letters = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:';
    $bits = '';
    foreach (str_split($text, 2) as $pair) {
        $first = (int) strpos($letters, $pair[0]);
        $bits .= strlen($pair) === 1
            ? sprintf('%06b', $first)
            : sprintf('%011b', $first * 45 + (int) strpos($letters, $pair[1]));
    }
    return $bits;
}

/** The data in blocks, each with its correction (Reed-Solomon), one byte of each in turn. */
function qr_interleaved(array $data, int $bytes, int $count, int $correction): array
{
    $power = [1];
    for ($n = 1; $n < 255; $n++) {
        $power[$n] = $power[$n - 1] << 1 ^ ($power[$n - 1] > 127 ? 0x11d : 0);
    }
    $log = array_flip($power);
    $times = function (int $a, int $b) use ($power, $log): int {
        return $a && $b ? $power[($log[$a] + $log[$b]) % 255] : 0;
    };
    $divisor = array_merge(array_fill(0, $correction - 1, 0), [1]);
    for ($n = 0; $n < $correction; $n++) {
        foreach ($divisor as $place => $factor) {
            $divisor[$place] = $times($factor, $power[$n]) ^ ($divisor[$place + 1] ?? 0);
        }
    }
    $short = intdiv($bytes, $count) - $correction;
    $blocks = $rests = [];
    for ($n = 0, $at = 0; $n < $count; $n++, $at += $length) {
        $length = $short + ($n < $count - $bytes % $count ? 0 : 1);
        $blocks[$n] = array_slice($data, $at, $length);
        $rest = array_fill(0, $correction, 0);
        foreach ($blocks[$n] as $byte) {
            $factor = $byte ^ array_shift($rest);
            $rest[] = 0;
            foreach ($divisor as $place => $each) {
                $rest[$place] ^= $times($each, $factor);
            }
        }
        $rests[$n] = $rest;
    }
    $all = [];
    foreach ([[$blocks, $short + 1], [$rests, $correction]] as [$of, $length]) {
        for ($place = 0; $place < $length; $place++) {
            foreach ($of as $block) {
                if (isset($block[$place])) {
                    $all[] = $block[$place];
                }
            }
        }
    }
    return $all;
}

function qr_drawn(int $version, array $bytes): array
{
    $side = 17 + 4 * $version;
    $rows = array_fill(0, $side, array_fill(0, $side, null));
    $set = function (int $x, int $y, int $dark) use (&$rows, $side): void {
        if ($x >= 0 && $y >= 0 && $x < $side && $y < $side) {
            $rows[$y][$x] = $dark;
        }
    };
    for ($n = 0; $n < $side; $n++) {  // timing
        $set(6, $n, 1 - $n % 2);
        $set($n, 6, 1 - $n % 2);
    }
    foreach ([[3, 3], [$side - 4, 3], [3, $side - 4]] as [$x, $y]) {  // finders
        for ($dy = -4; $dy <= 4; $dy++) {
            for ($dx = -4; $dx <= 4; $dx++) {
                $far = max(abs($dx), abs($dy));
                $set($x + $dx, $y + $dy, $far === 2 || $far === 4 ? 0 : 1);
            }
        }
    }
    $places = [];
    if ($version > 1) {
        $count = intdiv($version, 7) + 2;
        $step = $version === 32 ? 26 : intdiv($version * 4 + $count * 2 + 1, $count * 2 - 2) * 2;
        $places = [6];
        for ($n = $count - 2; $n >= 0; $n--) {
            $places[] = $side - 7 - $n * $step;
        }
    }
    foreach ($places as $y) {  // alignment, but in the three corners
        foreach ($places as $x) {
            if (($x === 6 && $y === 6) || ($x === 6 && $y === $side - 7) || ($x === $side - 7 && $y === 6)) {
                continue;
            }
            for ($dy = -2; $dy <= 2; $dy++) {
                for ($dx = -2; $dx <= 2; $dx++) {
                    $set($x + $dx, $y + $dy, max(abs($dx), abs($dy)) === 1 ? 0 : 1);
                }
            }
        }
    }
    $format = 0x77c4;  // level L, mask 0
    for ($n = 0; $n < 15; $n++) {
        $dark = $format >> $n & 1;
        $n < 8 ? $set($side - 1 - $n, 8, $dark) : $set(8, $side - 15 + $n, $dark);
        $at = $n < 6 ? [8, $n] : [[8, 7], [8, 8], [7, 8]][$n - 6] ?? [14 - $n, 8];
        $set($at[0], $at[1], $dark);
    }
    $set(8, $side - 8, 1);
    if ($version > 6) {
        $rest = $version;
        for ($n = 0; $n < 12; $n++) {
            $rest = $rest << 1 ^ ($rest >> 11) * 0x1f25;
        }
        for ($n = 0; $n < 18; $n++) {
            $dark = ($version << 12 | $rest) >> $n & 1;
            $set($side - 11 + $n % 3, intdiv($n, 3), $dark);
            $set(intdiv($n, 3), $side - 11 + $n % 3, $dark);
        }
    }
    $bit = 0;
    for ($right = $side - 1; $right > 0; $right -= $right === 8 ? 3 : 2) {  // two columns, up or down
        for ($n = 0; $n < $side; $n++) {
            $is_up = ($right < 6 ? $right + 1 : $right) % 4 === ($side - 1) % 4;
            $y = $is_up ? $side - 1 - $n : $n;
            foreach ([$right, $right - 1] as $x) {
                if ($rows[$y][$x] === null) {
                    $byte = $bytes[$bit >> 3] ?? 0;
                    $rows[$y][$x] = ($byte >> 7 - ($bit & 7) & 1) ^ ($x + $y) % 2 ^ 1;
                    $bit++;
                }
            }
        }
    }
    return $rows;
}

// SHARED
