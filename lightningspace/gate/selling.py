"""Invoices for services, and the macaroons that they pay for. Neither is stored."""

from dataclasses import dataclass

from lightningspace.base.clock import iso_time, now
from lightningspace.gate.answers import Refuses
from lightningspace.gate.credentials import Shown
from lightningspace.gate.meter import Meter
from lightningspace.gate.services import TIME_MAX, Gate, Service
from lightningspace.outside import l402
from lightningspace.outside.l402 import Macaroon, Rights
from lightningspace.outside.node import Invoice, NodeError
from lightningspace.rules import gate_income, restored
from lightningspace.rules.restored import Restoring
from lightningspace.shop import Shop
from lightningspace.visitors import authorization


@dataclass(frozen=True)
class Challenge:
    """An invoice, and the macaroon that is valid together with its preimage."""

    service: Service
    invoice: Invoice
    macaroon: Macaroon

    @property
    def lines(self) -> tuple[str, ...]:
        """The values of the two WWW-Authenticate lines."""
        return tuple(authorization.challenge(str(self.macaroon), self.invoice.bolt11))

    @property
    def valid_until(self) -> int:
        return l402.rights(self.macaroon, self.service.name, 0).valid_until


@dataclass(frozen=True)
class Holding:
    """What somebody has of a service. `balance_msat` None: it is a pass."""

    service: Service
    until: int
    balance_msat: int | None

    def told(self) -> dict:
        """In words for programs."""
        told = {"service": self.service.name, "title": self.service.title}
        told["valid_until"] = iso_time(self.until)
        return told if self.balance_msat is None else told | {"balance_msat": self.balance_msat}


def credit(meter: Meter, shown: Shown) -> bool:
    """Credit the payment of the macaroon that was shown; False: that was done before.

    It must be done before another macaroon takes its place, which has its rights, not its payment.
    """
    macaroon, is_new = shown.macaroon, False
    payment_hash = macaroon.payment_hash.hex() if macaroon else ""
    if not payment_hash or meter.has_credited(payment_hash):
        return False
    for name in l402.services(macaroon):
        paid_for = l402.credit(macaroon, name)
        # Once it is over, nobody knows any more whether it was credited: `balances.tidy`.
        if paid_for and paid_for[1] > now():
            is_new |= meter.credit(payment_hash, (shown.token_id, name), *paid_for)
    return is_new


def holdings(gate: Gate, meter: Meter, macaroon: Macaroon) -> list[Holding]:
    """What a macaroon is good for at the gate now."""
    found = []
    for service in gate.services:
        try:
            until = l402.rights(macaroon, service.name, now()).valid_until
        except l402.Invalid:
            continue
        left = meter.left((macaroon.token_id.hex(), service.name)) if service.bundle else None
        msat = (left[0] if left else 0) if service.bundle else None
        found.append(Holding(service, until, msat))
    return found


def challenge(shop: Shop, service: Service, shown: Shown) -> Challenge:
    """A new invoice for a service. The macaroon grants what the one that was shown grants as well.

    Raises NodeError and Restoring.
    """
    restored.check_sells()
    life = shop.config.invoice_minutes * 60
    label = gate_income.new_label(shop, service.name)
    invoice = shop.node.create_invoice(label, service.price_sat * 1000, service.title, life)
    # From the invoice's expiry, or the end of what is paid already: nobody loses time by waiting.
    starts = max(invoice.expires_at, _paid_until(service, shown))
    until = min(starts + service.seconds, invoice.expires_at + TIME_MAX)
    rights = Rights(service.all_capabilities, until)
    return Challenge(service, invoice, _macaroon(shop, service, shown, rights, invoice))


def _paid_until(service: Service, shown: Shown) -> int:
    """The end of the pass that was shown, if the one that is bought replaces it; otherwise 0."""
    if service.bundle or shown.macaroon is None or not l402.is_as_minted(shown.macaroon):
        return 0
    try:
        return l402.rights(shown.macaroon, service.name, now()).valid_until
    except l402.Invalid:
        return 0


def _macaroon(
    shop: Shop, service: Service, shown: Shown, rights: Rights, invoice: Invoice
) -> Macaroon:
    before = shown.macaroon
    payment_hash = bytes.fromhex(invoice.payment_hash)
    credit = service.bundle.msat if service.bundle else None
    if before is not None and l402.is_as_minted(before):
        try:
            caveats = l402.caveats_with(before, service.name, rights, now(), credit)
            return shop.keys.mint(payment_hash, before.token_id, caveats)
        except l402.Invalid:  # it holds too much by now
            pass
    # Whoever was given a narrowed one may buy, but gets no part in what the token id owns.
    caveats = l402.caveats(service.name, rights, credit)
    return shop.keys.mint(payment_hash, shop.keys.token_id(0), caveats)


def payment_required(sold: Challenge, **facts) -> Refuses:
    """402 with the invoice, as the shop's own API gives it."""
    return Refuses(
        402,
        "payment_required",
        "Pay the invoice, then send the same request again with the header "
        "Authorization: L402 <macaroon>:<preimage>.",
        challenge=sold.lines,
        facts={
            **terms(sold.service),
            "expires_at": iso_time(sold.invoice.expires_at),
            "valid_until": iso_time(sold.valid_until),
            "invoice": sold.invoice.bolt11,
            "macaroon": str(sold.macaroon),
            **facts,
        },
    )


def not_asked(service: Service) -> Refuses:
    """402 without an invoice: for requests that only look."""
    detail = "This needs payment. Send GET for an invoice."
    return Refuses(402, "payment_required", detail, facts=terms(service))


def terms(service: Service) -> dict:
    """What a service costs, in words for programs."""
    told = {"service": service.name, "title": service.title}
    told |= {"price_msat": service.price_sat * 1000, "seconds": service.seconds}
    if service.bundle:
        told["bundle_msat"] = service.bundle.msat
        told["costs"] = costs(service)
    if service.capabilities:
        told["methods"] = sorted({each for _, methods in service.capabilities for each in methods})
    if service.body:
        told["body"] = service.body
    return told


def costs(service: Service) -> dict:
    """What a request of a metered service uses up of its bundle."""
    bundle = service.bundle
    for per in ("request", "mb", "second"):
        if msat := getattr(bundle, f"per_{per}_msat"):
            return {"per": per, "msat": msat}
    if bundle.price_url:
        low, high = bundle.price_msat
        return {"per": "request", "msat_min": low, "msat_max": high}
    return {"per": "request", "named_in": bundle.cost_header}


def not_now(error: NodeError | Restoring) -> Refuses:
    return Refuses(error.status, error.code, error.text, error.retry_after)
