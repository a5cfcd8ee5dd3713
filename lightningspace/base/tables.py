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
    Domain,
    Evidence,
    Fact,
    MailPlace,
    Notice,
    Offer,
    Order,
    RestingName,
    Server,
    Service,
    Session,
    Token,
    Upload,
    Wallet,
    WalletSignature,
)
from lightningspace.base.money_models import DailyRate, IncomeOfDay, Refund, Voucher

TABLES = (
    *(Server, Account, Token, Session, Wallet, WalletSignature),
    *(Service, Upload, Domain, Notice, MailPlace),
    *(Order, Refund, Offer, RestingName, Evidence, Voucher, Cursor, Fact),
    *(IncomeOfDay, DailyRate),
    *(GateBalance, GateCredited, GateLease, GateSettled),
    *(GateRevoked, GateFreebie, GateCount, GateDisk),
)
