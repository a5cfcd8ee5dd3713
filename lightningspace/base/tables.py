"""All tables, each after those that it refers to."""

from lightningspace.base.gate_models import (
    GateBalance,
    GateCount,
    GateCredited,
    GateDisk,
    GateFreebie,
    GateLease,
    GateRevoked,
    GateSettled,
)
from lightningspace.base.models import (
    Account,
    Cursor,
    DailyRate,
    Domain,
    Evidence,
    Fact,
    IncomeOfDay,
    MailPlace,
    Notice,
    Offer,
    Order,
    Refund,
    RestingName,
    Server,
    Service,
    Session,
    Token,
    Upload,
    Voucher,
    Wallet,
    WalletSignature,
)

TABLES = (
    *(Server, Account, Token, Session, Wallet, WalletSignature),
    *(Service, Upload, Domain, Notice, MailPlace),
    *(Order, Refund, Offer, RestingName, Evidence, Voucher, Cursor, Fact),
    *(IncomeOfDay, DailyRate),
    *(GateBalance, GateCredited, GateLease, GateSettled),
    *(GateRevoked, GateFreebie, GateCount, GateDisk),
)
