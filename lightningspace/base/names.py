"""Names that customers choose: usernames, domains, mail addresses and redirect targets."""

import re
import secrets
import string
import unicodedata

import idna

RULE = re.compile(r"[a-z][a-z0-9]{2,15}")
RULE_IN_WORDS = "3 to 16 lower-case letters and digits, beginning with a letter"

# A username becomes <name>.<BASE_DOMAIN>, its mail domain, and part of FTP, SSH and database names.
# These would be mistaken for somebody else's by visitors, mail servers or the system.
RESERVED = frozenset(
    """
    abuse account accounts administrator administrators autoconfig autodiscover bin blog checkout
    contact customer customers daemon dbispconfig domain example games gnats guest help helpdesk
    hostmaster info informationschema invoice invoices isatap ispapps lists lnurl local localhost
    lsat lyncdiscover mailerdaemon mailman mails manager marketing me messagebus mobile msoid my
    mysqld news nobody noc noreply null official openpgpkey operator order orders owner payment
    payments php plesk pma pop3s postfix postmaster puma register sales secure security service
    services setup shell signin signup site sites ssl sync sys sysadmin terms tip tips tls update
    usenet user users uucp vmail webadmin webmaster wellknown whois wpad wwwdata
    """.split()
)
# Usual names of hosts. They are reserved with a number behind them as well: "vps", "vps3".
HOSTS = frozenset(
    """
    admin apache api app apps assets auth backup backups bak bastion beta billing bitcoin bitcoind
    bkp bmc box btc btcpay build buy cache caldav carddav cdn ci client clients cln cloud cluster
    console control core cp cpanel cron dashboard data database db dedi demo deploy dev devel dhcp
    dns docker docs download downloads edge elastic electrs electrum electrumx email es esx esxi
    explorer files firewall ftp ftps fulcrum fw gate gateway git gitea gitlab grafana gw haproxy
    home host hosting hosts http https hv hypervisor idp idrac ilo image images imap imaps img
    internal intranet ipmi irc ispconfig jabber jenkins jump k3s k8s kibana kube kvm lan lb ldap
    lightning lightningd list ln lnbits lnd loadbalancer log login logs mail mailer mailgate
    mailhost mailin mailout mailserver mariadb master matrix media memcached mempool metrics mgmt
    minio mirror mon mongo monit monitor monitoring mta munin mx mysql nagios nameserver nas
    nextcloud nfs nginx node nodes notify ns ntp office onion opnsense out panel pay pfsense pgsql
    phpmyadmin pop postgres preprod primary prod production proftpd prometheus proxmox proxy
    pureftpd pve queue rabbitmq rdns redis registry relay relays replica repo resolver root
    rootserver router rpc rspamd runner san sandbox secondary server servers sftp shop sip slave
    smtp smtpd smtps spam sql srv ssh sshd sso staff stage staging standby static stats status
    storage store stun support svn switch syslog system systemd test testing tests tmp tor turn
    upload uploads vault vcenter vhost vm vpn vps vserver wallet wan web webhost webmail webserver
    welcome wg whm wireguard worker www xen xmpp zabbix
    """.split()
)

DOMAIN = re.compile(
    r"(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])"
)
# A mailbox's address is also its login, which ISPConfig limits to 64 characters.
ADDRESS_MAX = 64
LOCAL_PART = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")
LOCAL_PART_IN_WORDS = "letters a to z and digits, with single . _ or - between them"
ADDRESS = re.compile(r"[A-Za-z0-9!#$&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$&'*+/=?^_`{|}~-]+)*")
# An address together with what is copied along from a mail or a link.
PASTED_ADDRESS = re.compile(
    r"([^<>]*<)?\s*(mailto:)?(?P<local>[^\s<>]+)@(?P<domain>[^\s<>@?,;]+)(\?[^\s<>]*)?[\s>,;]*",
    re.I,
)
PASTED_MAX = 1000
# Providers that deliver several domains to the same mailbox.
SAME_DOMAINS = {
    same: known
    for known, others in {
        "gmail.com": "googlemail.com",
        "icloud.com": "me.com mac.com",
        "proton.me": "protonmail.com pm.me",
        "yandex.com": "yandex.ru yandex.by yandex.kz yandex.ua ya.ru",
    }.items()
    for same in others.split()
}
# Zero-width characters and bidirectional marks.
UNSEEN = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
# It is written into the web server's configuration, so no character may have a meaning there.
WEB_ADDRESS = re.compile(
    r"https?://([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]"
    r"(?P<port>:[1-9][0-9]{0,4})?(/[A-Za-z0-9._~-]+)*/"
)
WEB_ADDRESS_MAX = 200


def is_domain(name: str) -> bool:
    """Whether it is a domain in lower-case A-labels. The panel itself adds "www." to a domain, so
    `www.` below one is refused.
    """
    is_below = name.startswith("www.") and name.count(".") > 1
    return DOMAIN.fullmatch(name) is not None and not is_below


def in_a_labels(name: str) -> str:
    """A host name as the DNS has it. Raises UnicodeError."""
    # UTS 46 lower-cases, and turns every kind of full stop into a plain dot.
    return ".".join(map(_a_label, idna.uts46_remap(name, std3_rules=True).split(".")))


def _a_label(label: str) -> str:
    if len(label) > 63:
        raise UnicodeError("a label is too long")
    try:
        return idna.alabel(label).decode()
    except idna.InvalidCodepoint:
        # Such as emoji: IDNA 2008 forbids them, but such domains exist.
        return _as_before(label)


def _as_before(label: str) -> str:
    """`idna.alabel` for labels that it refuses: by UTS 46 alone, as ISPConfig's PHP does it."""
    if not label.isascii():
        return f"xn--{label.encode('punycode').decode()}"
    shown = label.removeprefix("xn--").encode().decode("punycode")
    if idna.uts46_remap(shown, std3_rules=True) != shown or _as_before(shown) != label:
        raise UnicodeError("no A-label")
    return label


def in_unicode(domain: str) -> str:
    """A domain as people read it: "xn--mller-kva.example" becomes "müller.example"."""
    try:
        return idna.decode(domain)
    except UnicodeError:
        return domain


def is_local_part(text: str) -> bool:
    """Whether a mailbox may have this before its @. It is also the name of a directory."""
    return LOCAL_PART.fullmatch(text) is not None


def is_address(text: str) -> bool:
    """Whether it is one address that mail can be forwarded to, as `as_address` returns it."""
    try:
        return as_address(text) == text
    except ValueError:
        return False


def as_address(typed: str) -> str:
    """The address that somebody typed or pasted, as the panel keeps it: in lower case, its domain
    in A-labels. Raises ValueError.
    """
    text = UNSEEN.sub("", typed) if len(typed) <= PASTED_MAX else ""
    found = PASTED_ADDRESS.fullmatch(text.strip())
    if found is None or not ADDRESS.fullmatch(found["local"]):
        raise ValueError("no address")
    name = found["domain"].removesuffix(".")
    # The panel would drop a domain that this refuses, and keep only the local part.
    domain = in_a_labels(name)
    address = f"{found['local']}@{domain}".lower()
    if len(address) > 254 or not DOMAIN.fullmatch(domain):
        raise ValueError("no address")
    return address


def mailbox_of(address: str) -> str:
    """The same text for all addresses of one mailbox. Providers ignore case and what follows a
    plus; the largest ignore dots as well, and have several domains.
    """
    local, _, domain = address.rpartition("@")
    try:
        domain = in_a_labels(domain)
    except UnicodeError:
        domain = domain.lower()
    local = unicodedata.normalize("NFKC", local).casefold().partition("+")[0]
    return f"{local.replace('.', '')}@{SAME_DOMAINS.get(domain, domain)}"


def is_web_address(text: str) -> bool:
    """Whether a site may redirect there. It ends with a slash, because the requested path is
    appended; its host is in A-labels; it has no query.
    """
    found = WEB_ADDRESS.fullmatch(text) if len(text) <= WEB_ADDRESS_MAX else None
    return found is not None and int((found["port"] or ":80")[1:]) < 65536


def as_web_address(typed: str) -> str:
    """The URL that somebody typed, in the form of `is_web_address`. Raises ValueError."""
    scheme, _, rest = typed.rpartition("://")
    host, _, path = rest.partition("/")
    name, colon, port = host.partition(":")
    address = f"{(scheme or 'https').lower()}://{in_a_labels(name)}{colon}{port}/{path}"
    address = address.rstrip("/") + "/"
    if not is_web_address(address):
        raise ValueError
    return address


def is_reserved(name: str) -> bool:
    """Whether no shop sells it. `hostnames.is_reserved` adds what this operator reserves."""
    return name in RESERVED or name.rstrip(string.digits) in HOSTS


def generate() -> str:
    """Three letters and five digits. Whether it is free, only the database knows."""
    while True:
        letters = "".join(secrets.choice(string.ascii_lowercase) for _ in range(3))
        name = letters + "".join(secrets.choice(string.digits) for _ in range(5))
        if not is_reserved(name):
            return name
