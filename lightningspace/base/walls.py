"""The web server's and PHP's settings that keep the sites of a server apart.

Every text is ours to the letter: nothing that a customer typed becomes part of one.
"""

# What keeps sites apart. "narrow": Apache runs as a user of its own that can open every site's
# files and PHP sockets, so .htaccess may say next to nothing. "mpm_itk": Apache runs as the
# customer. "nginx": there is no .htaccess.
NARROW, MPM_ITK, NGINX = "narrow", "mpm_itk", "nginx"
MODES = (NARROW, MPM_ITK, NGINX)

# Nonfatal: a line that .htaccess may not contain, or that is wrong, is ignored instead of answered
# with error 500. Programs bring a .htaccess along. And it may be a symlink to a neighbour's or the
# server's file: it is read with the web server's rights (root's under mpm_itk), and lines that are
# no directives would be quoted in the error log.
FULL_OVERRIDE = ("AllowOverride All Nonfatal=All",)
# The directives that a .htaccess may use, one by one instead of by class: none that names a
# handler, a file or a variable, because each of these leads to a neighbour's PHP or files. Sections
# are allowed, or their closing lines alone would cause an error 500. So are Require, Order and the
# like, or directories that a program means to close would stay open. Conditions reveal only whether
# a file exists.
NARROW_OVERRIDE = (
    "AllowOverride Nonfatal=All",
    "AllowOverrideList <IfModule <IfVersion <IfDefine <IfDirective <IfSection <IfFile"
    " <If <ElseIf <Else <Files <FilesMatch <Limit <LimitExcept"
    " Require <RequireAll <RequireAny <RequireNone Order Allow Deny"
    " Redirect RedirectMatch RedirectPermanent RedirectTemp"
    " DirectoryIndex FallbackResource"
    " AddCharset AddDefaultCharset AddLanguage DefaultLanguage",
    "Options -FollowSymLinks +SymLinksIfOwnerMatch",
)
# A site's own PHP sees the credentials that its visitors send, as with every other web server.
PASSED_CREDENTIALS = ("CGIPassAuth On",)
# Without an index.php the fallback would cause an error 500, even for the front page.
PRETTY_ADDRESSES = (
    "DirectoryIndex index.php index.html index.htm standard_index.html",
    "<If \"-f '%{DOCUMENT_ROOT}/index.php'\">",
    "    FallbackResource /index.php",
    "</If>",
)
# The front page is separate: nginx may not open the directory `web`, so try_files would miss it.
PRETTY_ADDRESSES_OF_NGINX = """\
location = / {
    index index.php index.html index.htm standard_index.html;
}
location / {
    try_files $uri $uri/ /index.php?$args;
}"""
# What follows an index.php in an address is for that program, as it is with Apache.
PATHS_OF_NGINX = 'rewrite "^(/[a-z0-9-]+/index\\.php)/" $1 last;'
# With PHP off, ISPConfig serves a site through the symlink with its name, not from its directory.
DIRECTORIES = ("{DOCROOT}", "{DOCROOT_CLIENT}")

# ISPConfig's default without /tmp, which all customers share.
OPEN_BASEDIR = ("{root}/web", "{root}/private", "{root}/tmp", "/usr/share/php", "/dev/urandom")

# mail() returns false, and nothing is sent.
NO_MAIL = "sendmail_path = /bin/false"


def allow_override(mode: str) -> str:
    """The site's AllowOverride, which `apache_directives` then override."""
    return "All Nonfatal=All" if mode == MPM_ITK else "None"


def apache_directives(mode: str, pretty_addresses: bool) -> str:
    """The end of the site's configuration, in place from the moment the site exists.

    When a site is added, ISPConfig uses the server's own `allow_override`, whatever is sent. These
    directives take precedence.
    """
    if mode == NGINX:
        return ""
    lines = NARROW_OVERRIDE if mode == NARROW else FULL_OVERRIDE
    lines += PASSED_CREDENTIALS + (PRETTY_ADDRESSES if pretty_addresses else ())
    body = "".join(f"    {line}\n" for line in lines)
    return "".join(f"<Directory {name}>\n{body}</Directory>\n" for name in DIRECTORIES).rstrip()


def nginx_directives(mode: str, pretty_addresses: bool) -> str:
    if mode != NGINX:
        return ""
    pretty = [PRETTY_ADDRESSES_OF_NGINX] if pretty_addresses else []
    return "\n".join([PATHS_OF_NGINX, *pretty])


def redirect_type(mode: str) -> str:
    """The kind of redirect, as ISPConfig writes it into the web server's configuration."""
    return "permanent" if mode == NGINX else "R=301,L"


def open_basedir(root: str) -> str:
    """What PHP may open, for the site in the directory `root`."""
    return ":".join(OPEN_BASEDIR).format(root=root)


def php_ini(may_send: bool) -> str:
    """Lines of php.ini that the site's PHP cannot change."""
    return "" if may_send else NO_MAIL


def faults_of_server(mode: str, settings: dict[str, str]) -> list[str]:
    """Which of ISPConfig's server settings (section "web") separate customers less than the shop
    relies on, each as an instruction to the operator; see docs/hosting-server.md.
    """
    is_nginx = settings.get("server_type") == "nginx"
    wrong = {
        "it serves sites by nginx: set WALLS=nginx": is_nginx and mode != NGINX,
        "it serves sites by Apache: WALLS=nginx is wrong": not is_nginx and mode == NGINX,
        f"set “.htaccess AllowOverride” to {allow_override(mode)}": (
            not is_nginx and settings.get("htaccess_allow_override") != allow_override(mode)
        ),
        "take /tmp out of “PHP open_basedir”": (
            "/tmp" in settings.get("php_open_basedir", "").split(":")
        ),
        "set “Security level” to High": settings.get("security_level") != "20",
        "switch “Set folder permissions on update” off: it opens what was shut": (
            settings.get("set_folder_permissions_on_update") == "y"
        ),
        "switch “Test webserver configuration on restart” off: it stops Apache at each change": (
            not is_nginx and settings.get("check_apache_config") == "y"
        ),
    }
    return [fault for fault, is_so in wrong.items() if is_so]
