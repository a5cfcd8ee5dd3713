"""The operator's commands for refunds: `flask --app wsgi refunds`, and `refund …`."""

from datetime import UTC

import click
from flask.cli import AppGroup, with_appcontext

from lightningspace.base import messages
from lightningspace.base.clock import clock_time, now
from lightningspace.base.money_models import Refund
from lightningspace.base.refusals import Refusal
from lightningspace.operator import search
from lightningspace.rules import refunds
from lightningspace.rules.refunds import IN_WORDS, State
from lightningspace.shop import this_shop

STATES_IN_WORDS = {
    State.OPEN: "nobody has claimed it yet",
    State.CLAIMED: "waits for your word",
    State.DUE: "is paid in a moment",
    State.PAYING: "is being paid",
    State.FAILED: "was not paid: its payer may leave another destination",
    State.PAID: "paid",
    State.REFUSED: "refused",
}


@click.command("refunds")
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Those paid from that day on.")
@with_appcontext
def list_refunds(since):
    """Print the refunds that wait, or with --since those that were paid."""
    found = refunds.waiting()
    if since:
        found = refunds.paid_back(int(since.replace(tzinfo=UTC).timestamp()), now() + 1)
    for refund in found:
        click.echo(_line(refund))
    if since:
        fees_msat = sum(each.fee_msat or 0 for each in found)
        click.echo(f"{sum(each.msat for each in found)} msat paid back, {fees_msat} msat of fees")


def _line(refund: Refund) -> str:
    state = refunds.state(refund)
    moment = refund.paid_at or refund.sent_at or refund.claimed_at or refund.made_at
    lines = [f"{refund.id}: {refund.msat} msat, {STATES_IN_WORDS[state]} ({clock_time(moment)})"]
    lines.append(f"  of payment {refund.order.payment_hash}")
    if refund.destination:
        lines.append(f"  to {refund.destination}")
    if refund.problem:
        lines.append(f"  {IN_WORDS[refund.problem]}")
    if refund.preimage:
        lines.append(f"  by payment {refund.payment_hash}, preimage {refund.preimage}")
    return "\n".join(lines)


refund = AppGroup("refund", help="Offer, approve or refuse a refund.")


@refund.command("offer")
@click.argument("payment")
@click.option("--msat", type=click.IntRange(min=1), help="How much; by default, all that is left.")
def offer(payment, msat):
    """Offer a refund to whoever made PAYMENT: a payment hash, or the token of an order.

    It is paid as soon as it is claimed, without asking you again. Time that the payment bought
    stays.
    """
    try:
        _print(refunds.offer(payment, msat))
    except refunds.CannotOffer as error:
        raise click.ClickException(str(error)) from None


@refund.command("close")
@click.argument("username")
def close(username):
    """Close a blocked hosting for good, and offer what is left of its paid time.

    Everything in it is deleted. Whoever made the payment that opened it may claim the refund.
    """
    account = search.named(username)
    try:
        _print(refunds.close_account(this_shop(), account))
    except refunds.CannotOffer as error:
        raise click.ClickException(str(error)) from None
    except Refusal as refused:
        raise click.ClickException(refused.text) from None


@refund.command("approve")
@click.argument("refund_id")
def approve(refund_id):
    """Let the worker pay a refund, or try once more."""
    _change(refunds.approve(refund_id), refund_id, "approved")


@refund.command("refuse")
@click.argument("refund_id")
@click.argument("reason")
def refuse(refund_id, reason):
    """Refuse to pay a refund. Whoever claimed it reads the REASON."""
    reason = messages.on_one_line(reason)
    if not reason:
        raise click.ClickException("write a reason: whoever claimed it reads it")
    _change(refunds.refuse(refund_id, reason), refund_id, "refused")


def _change(is_done: bool, refund_id: str, what: str) -> None:
    if not is_done:
        raise click.ClickException(f"no refund {refund_id} can be {what}: see `refunds`")
    _print(Refund.get_by_id(refund_id))


def _print(refund: Refund) -> None:
    click.echo(_line(refund))
    click.echo(f"  its payer sees it at {this_shop().config.public_url}/refund")
