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
const AGENT = 'lightning-space tip jar';
const MESSAGE_MAX = 140;        // characters
const AMOUNTS_MAX = 6;          // buttons
const SAT_MAX = 100000000;      // one bitcoin

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
    send_page_headers(script());
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

function message_problem(?string $message): ?string
{
    if ($message === null) {
        return 'This message cannot be read. Please write it again.';
    }
    return characters($message) > MESSAGE_MAX
        ? 'Please shorten the message to ' . MESSAGE_MAX . ' characters.'
        : null;
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
    [$status, $answer] = ask($method, $url, $body);
    if ($status !== $expected) {
        throw new Trouble(isset(words()["$status"]) ? "$status" : 'odd');
    }
    return read_json($answer);
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

// -- plain values ----------------------------------------------------------------------

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

/** `$state`: for the script to compare, "" for the jar. `$waits`: whether the page looks again. */
function page(string $title, string $state, bool $waits, callable $fragment): void
{
    send_page_headers(script());
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

// SHARED
