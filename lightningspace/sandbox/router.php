<?php
// The sandbox's web server, for `php -S`. It serves each site at <site>.localhost, where <site> is its
// name at the shop. Other names, whether never sold, removed or switched off, get the default page.

$root = realpath($_SERVER['DOCUMENT_ROOT']);
$host = strtolower(explode(':', $_SERVER['HTTP_HOST'] ?? '')[0]);
$name = preg_replace('/\.localhost$/D', '', $host);
$site = preg_match('/^[a-z0-9][a-z0-9.-]*\.[a-z][a-z0-9-]*$/D', $name) ? $name : '';
$pages = $site === '' || strpos($site, '..') !== false ? false : realpath("$root/$site/web");
$asked = rawurldecode(parse_url($_SERVER["REQUEST_URI"], PHP_URL_PATH) ?: "/");
$path = $pages && strpos($asked, "\0") === false ? realpath($pages . $asked) : false;

if ($pages === false && $asked === '/') {
    header('Content-Type: text/html; charset=utf-8');
    exit("<!doctype html>\n<title>Default page</title>\n<h1>It works!</h1>\n"
        . "<p>This is the server's own default page: there is no site of this name, or it is off. "
        . "The sites of the sandbox are at http://&lt;site&gt;.localhost.</p>\n");
}
// A path that continues after a program's name is for that program, and so is what FallbackResource
// sends to it.
$program = preg_match('#^(/[a-z0-9-]+)/#', $asked, $area) ? "$area[1]/index.php" : '';
if ($path === false && $program !== '' && is_file($pages . $program)) {
    $htaccess = (string) @file_get_contents("$pages$area[1]/.htaccess");
    $is_its = strpos($asked, "$program/") === 0 || strpos($htaccess, "FallbackResource $program") !== false;
    $path = $is_its ? realpath($pages . $program) : false;
}
if ($path !== false && is_dir($path)) {
    $indexes = ['index.html', 'index.htm', 'index.php', 'standard_index.html'];
    $path = current(array_filter(array_map(fn ($name) => realpath("$path/$name"), $indexes)));
}
if (!$path || strpos("$path/", "$pages/") !== 0) {
    http_response_code(404);
    header('Content-Type: text/plain');
    exit("There is no such page.\n");
}
if (substr($path, -4) === '.php') {
    chdir(dirname($path));
    $_SERVER['SCRIPT_FILENAME'] = $path;
    $_SERVER['DOCUMENT_ROOT'] = $pages;
    $_SERVER['SCRIPT_NAME'] = $_SERVER['PHP_SELF'] = substr($path, strlen($pages));
    require $path;
    return;
}
$types = ['html' => 'text/html', 'htm' => 'text/html', 'css' => 'text/css', 'js' => 'text/javascript',
    'json' => 'application/json', 'svg' => 'image/svg+xml', 'png' => 'image/png', 'jpg' => 'image/jpeg'];
header('Content-Type: ' . ($types[strtolower(pathinfo($path, PATHINFO_EXTENSION))] ?? 'text/plain'));
readfile($path);
