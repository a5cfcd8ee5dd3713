"""What the web server is told of a site so that its neighbours cannot get at it, nor it at them.

The texts are ours to the letter: nothing that a customer has typed becomes part of one.
"""

# What keeps sites apart. "narrow": Apache has rights of its own, which open every site's files and
# PHP sockets, so .htaccess may say next to nothing. "mpm_itk": Apache has the customer's rights.
# "nginx": there is no .htaccess.
NARROW, MPM_ITK, NGINX = "narrow", "mpm_itk", "nginx"
MODES = (NARROW, MPM_ITK, NGINX)

# Nonfatal: what a .htaccess may not say, or says wrong, is void and no error 500. Programs bring
# one along. And it may be a link to a neighbour's file, or the server's: it is read with the web
# server's rights (root's under mpm_itk), and what is no directive would stand in the error log.
FULL_OVERRIDE = ("AllowOverride All Nonfatal=All",)
# What a .htaccess may say, word by word: nothing that names a handler, a file or a variable, for
# each of these leads to a neighbour's PHP or files. No class of directives as a whole. Sections are
# allowed, or their closing lines alone would be an error 500; so are Require, Order and their kind,
# or what a program means to shut would lie open. Conditions tell whether a file exists, no more.
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
# Where there is no index.php a fallback would end in an error 500, for the first page as well.
PRETTY_ADDRESSES = (
    "DirectoryIndex index.php index.html index.htm standard_index.html",
    "<If \"-f '%{DOCUMENT_ROOT}/index.php'\">",
    "    FallbackResource /index.php",
    "</If>",
)
# The first page apart: nginx may not open the directory `web`, and would not find it.
PRETTY_ADDRESSES_OF_NGINX = """\
location = / {
    index index.php index.html index.htm standard_index.html;
}
location / {
    try_files $uri $uri/ /index.php?$args;
}"""
# With PHP switched off ISPConfig serves a site by the link of its name, and not by its directory.
DIRECTORIES = ("{DOCROOT}", "{DOCROOT_CLIENT}")

# Of what ISPConfig gives a site by itself: without /tmp, which all customers share.
OPEN_BASEDIR = ("{root}/web", "{root}/private", "{root}/tmp", "/usr/share/php", "/dev/urandom")

# mail() answers false, and nothing is sent.
NO_MAIL = "sendmail_path = /bin/false"


def allow_override(mode: str) -> str:
    """What stands behind AllowOverride for the site's directories, before `apache_directives`."""
    return "All Nonfatal=All" if mode == MPM_ITK else "None"


def apache_directives(mode: str, pretty_addresses: bool) -> str:
    """The end of the site's configuration, which ISPConfig writes from the first moment on.

    When a site is added, `allow_override` is the server's own, whatever is sent: this wins over it.
    """
    if mode == NGINX:
        return ""
    lines = NARROW_OVERRIDE if mode == NARROW else FULL_OVERRIDE
    lines += PRETTY_ADDRESSES if pretty_addresses else ()
    body = "".join(f"    {line}\n" for line in lines)
    return "".join(f"<Directory {name}>\n{body}</Directory>\n" for name in DIRECTORIES).rstrip()


def nginx_directives(mode: str, pretty_addresses: bool) -> str:
    return PRETTY_ADDRESSES_OF_NGINX if pretty_addresses and mode == NGINX else ""


def redirect_type(mode: str) -> str:
    """What ISPConfig puts behind a redirect in the web server's configuration."""
    return "permanent" if mode == NGINX else "R=301,L"


def open_basedir(root: str) -> str:
    """What PHP may open, of a site whose directory is `root`."""
    return ":".join(OPEN_BASEDIR).format(root=root)


def php_ini(may_send: bool) -> str:
    """What the site's PHP is told in lines of php.ini that it cannot change."""
    return "" if may_send else NO_MAIL


def faults_of_server(mode: str, settings: dict[str, str]) -> list[str]:
    """What of ISPConfig's server settings (section "web") keeps customers less apart than the shop
    counts on, each as it is to be put right; see docs/hosting-server.md.
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
