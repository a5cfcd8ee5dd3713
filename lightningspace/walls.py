"""What the web server is told of a site so that its neighbours cannot get at it, nor it at them.

The texts are ours to the letter: nothing that a customer has typed becomes part of one.
"""

# Whose rights Apache has when it serves a site. "narrow": its own, which open every site's files
# and PHP sockets, so .htaccess may say next to nothing. "mpm_itk": the customer's.
NARROW, MPM_ITK = "narrow", "mpm_itk"

# No FileInfo: SetHandler, AddType, RewriteRule [P] and SetEnv lead to a neighbour's PHP. No
# AuthConfig: AuthUserFile names a neighbour's file. Nonfatal: what is forbidden is void and no
# error 500, for programs bring a .htaccess along.
NARROW_CLASSES = "Indexes Limit Options=Indexes,SymLinksIfOwnerMatch,MultiViews Nonfatal=Override"
# Of FileInfo what names no handler, file or variable.
NARROW_DIRECTIVES = (
    "Redirect RedirectMatch RedirectPermanent RedirectTemp "
    "AddCharset AddDefaultCharset AddLanguage DefaultLanguage"
)
# Where there is no index.php a fallback would end in an error 500, for the first page as well.
PRETTY_ADDRESSES = (
    "DirectoryIndex index.php index.html index.htm standard_index.html",
    "<If \"-f '%{DOCUMENT_ROOT}/index.php'\">",
    "    FallbackResource /index.php",
    "</If>",
)
# With PHP switched off ISPConfig serves a site by the link of its name, and not by its directory.
DIRECTORIES = ("{DOCROOT}", "{DOCROOT_CLIENT}")

# Of what ISPConfig gives a site by itself: without /tmp, which all customers share.
OPEN_BASEDIR = ("{root}/web", "{root}/private", "{root}/tmp", "/usr/share/php", "/dev/urandom")

# mail() answers false, and nothing is sent.
NO_MAIL = "sendmail_path = /bin/false"


def allow_override(mode: str) -> str:
    """What stands behind AllowOverride for the site's directories, in at most 255 characters."""
    if mode == MPM_ITK:
        return "All"
    return f"{NARROW_CLASSES}\nAllowOverrideList {NARROW_DIRECTIVES}"


def apache_directives(mode: str, pretty_addresses: bool) -> str:
    """The end of the site's configuration, which ISPConfig writes from the first moment on.

    When a site is added, `allow_override` is the server's own, whatever is sent: this wins over it.
    """
    lines = []
    if mode == NARROW:
        lines.append(f"AllowOverride {NARROW_CLASSES}")
        lines.append(f"AllowOverrideList {NARROW_DIRECTIVES}")
    if pretty_addresses:
        lines += PRETTY_ADDRESSES
    if not lines:
        return ""
    body = "".join(f"    {line}\n" for line in lines)
    return "".join(f"<Directory {name}>\n{body}</Directory>\n" for name in DIRECTORIES).rstrip()


def open_basedir(root: str) -> str:
    """What PHP may open, of a site whose directory is `root`."""
    return ":".join(OPEN_BASEDIR).format(root=root)


def php_ini(may_send: bool) -> str:
    """What the site's PHP is told in lines of php.ini that it cannot change."""
    return "" if may_send else NO_MAIL
