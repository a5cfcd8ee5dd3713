"""The groups of settings, in the order of docs/settings.md, and what is said about each."""

from lightningspace.base.settings import Group

THE_SHOP = Group("The shop", "Its addresses, and where it keeps its data.")
WHO = Group(
    "Who runs it",
    "What visitors are told about you, at the foot of each page. The files are Markdown; HTML in "
    "them is shown as text.",
)
OPERATOR = Group("The operator", "What is for you alone: messages, pages, figures and backups.")
LIGHTNING = Group("Lightning", "The Core Lightning node, and its invoices.")
SERVERS = Group("ISPConfig and its servers", "Where hostings are set up.")
PRICES = Group(
    "Sizes and prices",
    "All prices are per day, in millisatoshi (msat): 1000 msat are 1 sat.",
)
TIME = Group("Time", "What happens when paid time is over, and how much of it may be bought.")
MAIL = Group("Mail and DNS", "How reminders are sent, and how customers' domains are checked.")
TIPS = Group("Tips", "Tips that visitors pay towards a hosting. A tip jar is a page on its site.")
UPLOADS = Group(
    "Uploads",
    "What customers send by the browser, tip jars and paid areas: the worker uploads them to the "
    "sites over FTP.",
)
LIMITS = Group(
    "Limits",
    "How often something may be done. Write a limit as `20 per minute`; the units are `second`, "
    "`minute`, `hour` and `day`. A network is one IPv4 address, or one IPv6 /48, which is as much "
    "as a provider gives to one customer.\n\n"
    "An `_OVERALL` limit is shared by all networks. Once it is used up, the networks that used "
    "most of it are refused; any other may go on until it has used its share: the limit divided by "
    "the number of networks that have used some of it in that span, and at least one. A refused "
    "request counts for nobody.",
)
GATE = Group(
    "The gate",
    "Payment in front of anything that nginx serves.",
)

VERIFY_TLS = "`true`, `false`, or a file with the CA certificates to trust."
