"""All that the shop stores, in plain words: what it is, why, and when it is deleted.

A test holds this table against schema.sql: a new column needs its place here. The privacy page
shows it to everybody.
"""

from lightningspace.rules.stored_entry import Entry, Group, Until

STORED = (
    # -- the hosting -----------------------------------------------------------------
    Entry(
        Group.HOSTING,
        "Its name, and a random number that stands for it",
        "They are its address and your login, and tell what else here belongs to it.",
        Until.HOSTING,
        {
            "accounts": "id username",
            "tokens": "account_id",
            "sessions": "account_id",
            "wallets": "account_id",
            "services": "account_id",
            "uploads": "account_id",
            "domains": "account_id",
            "notices": "account_id",
        },
    ),
    Entry(
        Group.HOSTING,
        "Its size and its server",
        "To give you what you bought.",
        Until.HOSTING,
        {"accounts": "server_id moved_from space_mb extra_addresses extra_domains"},
    ),
    Entry(
        Group.HOSTING,
        "What you have paid in total, what is left of it, and until when it lasts",
        "To know when your time is over.",
        Until.HOSTING,
        {
            "accounts": "opened_at ready_at expires_at valued_at value_msat credit_msat paid_msat"
            " unpaid_seconds began_at kept_until"
        },
    ),
    Entry(
        Group.HOSTING,
        "Whether it is switched off, blocked or being closed, and why",
        "So that it is on and off when it should be, and you are told.",
        Until.HOSTING,
        {
            "accounts": "calendar_at last_call_at suspended_at blocked_at blocked_reason"
            " blocked_for closing_at deleting_at"
        },
    ),
    Entry(
        Group.HOSTING,
        "What it consists of, with the settings: its site, users, database, mailboxes, forwards, "
        "paid areas",
        "The server is set up from this.",
        Until.REMOVED,
        {"services": "kind name settings active gone note"},
    ),
    Entry(
        Group.HOSTING,
        "The last files that you sent for your site: how many, when, and how far they are online",
        "To put them there, and to tell you. We keep the files themselves no longer than that.",
        Until.UPLOAD_OVER,
        {"uploads": "id total compared done sent_at ended_at outcome about"},
    ),
    Entry(
        Group.HOSTING,
        "How much of its space is used",
        "To show you, and to know whether a smaller size would be enough.",
        Until.HOSTING,
        {"accounts": "used_site_mb used_database_mb used_mail_mb used_at usage_at"},
    ),
    Entry(
        Group.HOSTING,
        "How far the server has followed each change",
        "To show you how things stand, and to try again what failed.",
        Until.REMOVED,
        {
            "accounts": "revision reconcile_at leased_until leases",
            "services": "revision applied_revision applied_at panel_id permanent tries tried_at"
            " failed_since certificate_asked_at certificate_asks certificate_at",
        },
    ),
    Entry(
        Group.HOSTING,
        "What the server answered when a change failed, and which program of ours is at work on it",
        "For the operator, to repair it.",
        Until.REMOVED,
        {"accounts": "leased_by", "services": "error"},
        is_shown=False,
    ),
    Entry(
        Group.HOSTING,
        "The name of a hosting that was deleted, as a keyed hash, and its first payment’s hash",
        "Nobody else gets it while others may still write to you. You can, with its access key.",
        Until.NAME_RESTED,
        {"resting_names": "name_hash until payment_hash receipt_epoch"},
        is_shown=False,
    ),
    # -- orders and payments ---------------------------------------------------------
    Entry(
        Group.PAYMENTS,
        "Each order: what was ordered, at which price, when, and until when it could be paid",
        "To give you what you pay for. Paid ones are the shop’s books.",
        Until.ORDER_OVER,
        {
            "orders": "kind space_mb extra_addresses extra_domains duration unit amount_msat"
            " placed_at expires_at cancelled_at withdrawn_at missing_at released_at redeemed_at"
        },
    ),
    Entry(
        Group.PAYMENTS,
        "Each payment: when, how much, its hash, our node that received it, and what it bought",
        "So that it counts, and counts once. It does not say who paid: we do not know.",
        Until.NEVER,
        {
            "orders": "payment_hash paid_at node_id pay_index received_msat applied_at"
            " bought_seconds ends_at bought_credit_msat is_late",
        },
    ),
    Entry(
        Group.PAYMENTS,
        "Which hosting an order or a payment is for, and the name that you asked for",
        "To show you what you have paid.",
        Until.DETACHED,
        {"orders": "account_id username"},
    ),
    Entry(
        Group.PAYMENTS,
        "The secret number of an order, the hash of its invoice, and whose rights it carries",
        "The order is found by it, and your wallet can prove that you paid.",
        Until.ORDER_OVER,
        {"orders": "token invoice_hash holder receipt_epoch"},
        is_shown=False,
    ),
    Entry(
        Group.PAYMENTS,
        "The text of its invoice",
        "To show it to you while it can be paid. Wallets that pay a Lightning Address may ask for"
        " it later as well.",
        Until.INVOICE_OVER,
        {"orders": "bolt11"},
        is_shown=False,
    ),
    Entry(
        Group.PAYMENTS,
        "Keyed hashes of the browser that ordered and of what was typed in the form",
        "So that only that browser gets in, and a form sent twice is one order.",
        Until.DETACHED,
        {"orders": "browser asked attempt"},
        is_shown=False,
    ),
    Entry(
        Group.PAYMENTS,
        "A keyed hash of the network that has reserved a name and not paid for it yet",
        "So that nobody reserves many names without paying.",
        Until.NAME_PAID,
        {"accounts": "held_by"},
        is_shown=False,
    ),
    Entry(
        Group.PAYMENTS,
        "A keyed hash of that name and that network",
        "So that nobody reserves one name for ever without paying.",
        Until.NAME_NOT_HELD,
        {"orders": "held_name"},
        is_shown=False,
    ),
    Entry(
        Group.PAYMENTS,
        "Each refund: of which payment, how much, when it was claimed, approved or refused and why,"
        " when it was paid, with which fee, and the payment’s hash and preimage",
        "So that it is paid once, with a proof. These are the shop’s books.",
        Until.NEVER,
        {
            "refunds": "id order_token msat made_at approved_at refused_at reason claimed_at"
            " problem sent_at payment_hash expires_at paid_at preimage fee_msat"
        },
        is_shown=False,
    ),
    Entry(
        Group.PAYMENTS,
        "Where you want a refund to be paid: a Lightning Address, an offer or an invoice",
        "To pay it there.",
        Until.PAID_BACK,
        {"refunds": "destination"},
        is_shown=False,
    ),
    # -- logins ----------------------------------------------------------------------
    Entry(
        Group.LOGINS,
        "Your login password, as a hash (scrypt)",
        "To compare what is typed with it. Nobody can read the password from it.",
        Until.HOSTING,
        {"accounts": "password_hash"},
        is_shown=False,
    ),
    Entry(
        Group.LOGINS,
        "The password that you chose when you ordered, or that we chose, encrypted",
        "To set up the services with it, and to show it to you if we chose it.",
        Until.PASSWORD_NOTED,
        {"accounts": "password_sealed", "services": "own_password_sealed"},
        is_shown=False,
    ),
    Entry(
        Group.LOGINS,
        "A new password for a service, encrypted",
        "To tell it to the server.",
        Until.PASSWORD_APPLIED,
        {"services": "password_sealed"},
        is_shown=False,
    ),
    Entry(
        Group.LOGINS,
        "Each browser that is logged in: since when, when last used to the hour, and when and how"
        " you last proved that it is you",
        "To keep you logged in, and to show you who else is. No address, no kind of browser.",
        Until.LOGGED_OUT,
        {"sessions": "begun_at used_at proved_at by_receipt"},
    ),
    Entry(
        Group.LOGINS,
        "A hash of what that browser’s cookie holds",
        "To recognize the cookie.",
        Until.LOGGED_OUT,
        {"sessions": "id"},
        is_shown=False,
    ),
    Entry(
        Group.LOGINS,
        "Each token that you handed out: its name, what it allows, when it was made, until when",
        "So that it works, and you can revoke it.",
        Until.REVOKED,
        {"tokens": "name capabilities valid_until made_at"},
    ),
    Entry(
        Group.LOGINS,
        "The number in that token",
        "To recognize the token, which itself is not stored.",
        Until.REVOKED,
        {"tokens": "id"},
        is_shown=False,
    ),
    Entry(
        Group.LOGINS,
        "How often every login was ended, whether a password or access key was ever used, whether"
        " the wallet that paid may log in, and when it asked to",
        "So that old access keys end, and you are told before the wallet’s history opens it.",
        Until.HOSTING,
        {"accounts": "session_epoch receipt_epoch entered_at wallet_recovers recovery_asked_at"},
    ),
    Entry(
        Group.LOGINS,
        "Each wallet that you linked: since when, when it last logged in, and the public key that"
        " it has for this shop alone",
        "So that it logs in. The key tells nothing of your payments, or of other shops.",
        Until.REVOKED,
        {"wallets": "wallet_key linked_at used_at"},
    ),
    Entry(
        Group.LOGINS,
        "What a wallet has signed to log in or to be linked, and by which key",
        "So that it counts once.",
        Until.A_DAY,
        {"wallet_signatures": "k1 wallet_key until is_used"},
        is_shown=False,
    ),
    # -- tips ------------------------------------------------------------------------
    Entry(
        Group.TIPS,
        "Which ways of tipping are open, and what very small tips add up to",
        "You choose them under “Tips”.",
        Until.HOSTING,
        {"accounts": "tips_page tips_address tips_offer tips_show_end small_tips small_tips_msat"},
    ),
    Entry(
        Group.TIPS,
        "The message that came with a tip, and when you hid it",
        "Only the owner of the site sees it. We do not know who wrote it.",
        Until.DETACHED,
        {"orders": "message hidden_at"},
    ),
    Entry(
        Group.TIPS,
        "How a payment came, and to which offer",
        "To list tips apart from your own payments.",
        Until.NEVER,
        {"orders": "door offer_id"},
    ),
    Entry(
        Group.TIPS,
        "Your BOLT 12 offer, which has your site’s name in it",
        "Wallets pay it. Our Lightning node, which deletes no offers, keeps it switched off.",
        Until.HOSTING,
        {"offers": "account_id bolt12"},
    ),
    Entry(
        Group.TIPS,
        "The number of that offer, which is a hash, and whether it is on",
        "So that it is switched off with the hosting, and a late payment is recognized.",
        Until.NEVER,
        {"offers": "id is_active is_due revision held_until"},
    ),
    # -- mails -----------------------------------------------------------------------
    Entry(
        Group.MAIL,
        "Your e-mail address, if you gave one, and whether it is confirmed",
        "For reminders before your time ends, and a warning if someone tries to take over.",
        Until.ADDRESS_REMOVED,
        {"accounts": "email email_waits email_epoch"},
    ),
    Entry(
        Group.MAIL,
        "That a mail was written to you: what about, when, and when it was sent",
        "So that it is written once.",
        Until.HOSTING,
        {"notices": "kind about channel written_at try_at tries sent_at"},
    ),
    Entry(
        Group.MAIL,
        "Who that mail goes to, and its subject",
        "To send it.",
        Until.MAIL_SENT,
        {"notices": "recipient subject"},
    ),
    Entry(
        Group.MAIL,
        "Its text with its links, and what the mail server answered",
        "To send it.",
        Until.MAIL_SENT,
        {"notices": "body unsubscribe error"},
        is_shown=False,
    ),
    Entry(
        Group.MAIL,
        "Keyed hashes of the addresses we wrote to",
        "So that nobody gets more than a few mails a day.",
        Until.A_DAY,
        {"mail_places": "for_whom number taken_at"},
        is_shown=False,
    ),
    # -- domains ---------------------------------------------------------------------
    Entry(
        Group.DOMAINS,
        "Each domain that you use here, what its records said, and when we looked",
        "To check that it is yours, and to make it work.",
        Until.UNPROVEN,
        {
            "domains": "name added_at look_at asked_at looked_at verified_at missing_at wants_mail"
            " has_mx mx_missing_at problem found"
        },
    ),
    # -- the gate --------------------------------------------------------------------
    Entry(
        Group.GATE,
        "What is left of a prepaid bundle, by the random number in its credential, and the payments"
        " that it came from",
        "To use up what was paid for, and to count each payment once. A pass leaves nothing here.",
        Until.GATE_OVER,
        {
            "gate_balances": "token_id service msat until",
            "gate_credited": "payment_hash until",
            "gate_leases": "process token_id service msat renewed_at",
        },
        is_shown=False,
    ),
    Entry(
        Group.GATE,
        "The random number in a credential that we have revoked",
        "To refuse it as long as anything can be paid for.",
        Until.TEN_YEARS,
        {"gate_revoked": "token_id revoked_at until"},
        is_shown=False,
    ),
    Entry(
        Group.GATE,
        "Which requests cost other than was reserved of a bundle, by a random number",
        "To charge each request once.",
        Until.A_WEEK,
        {"gate_settled": "request_id settled_at"},
        is_shown=False,
    ),
    Entry(
        Group.GATE,
        "Keyed hashes of the networks that had a free request",
        "To give each network its free ones.",
        Until.A_DAY,
        {"gate_freebies": "service network day used"},
        is_shown=False,
    ),
    Entry(
        Group.GATE,
        "Until when disk space is paid for, by the random number in its credential",
        "To lock the folder then, and to delete it later.",
        Until.DISK_OVER,
        {"gate_disks": "service token_id until"},
        is_shown=False,
    ),
    Entry(
        Group.SHOP,
        "Vouchers: a hash of each code, what it is good for, and when it was made and used",
        "To let each be used once. Nothing says by whom.",
        Until.NEVER,
        {"vouchers": "code_hash space_mb days made_at used_at"},
        is_shown=False,
    ),
    Entry(
        Group.SHOP,
        "What we noted about a hosting that was blocked: its name, what for, and the evidence",
        "To answer who has reported it, and its owner.",
        Until.EVIDENCE,
        {"evidence": "id username category note noted_at"},
        is_shown=False,
    ),
    # -- nobody's --------------------------------------------------------------------
    Entry(
        Group.SHOP,
        "The servers, the last payment read from the node, and single facts, such as when the"
        " worker last ran",
        "To run the shop. Nothing in it is about a customer.",
        Until.NEVER,
        {
            "income": "day kind times msat",
            "daily_rates": "currency day per_bitcoin",
            "gate_counts": "service day outcome times",
            "servers": "id capacity_mb php_versions php_at",
            "cursors": "node_id pay_index payment_hash",
            "facts": "name value",
        },
        is_shown=False,
    ),
)

ENTRY_OF = {name: entry for entry in STORED for name in entry.names}


def by_group() -> dict[Group, list[Entry]]:
    """The entries of each group, in its order."""
    return {group: [each for each in STORED if each.group == group] for group in Group}
