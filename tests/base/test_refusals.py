"""The texts of refusals, for customers and for the operator."""

from lightningspace.outside.node import NodeError
from lightningspace.rules.orders import NoInvoice, TooManyUnpaid


def test_a_refusal_has_its_classs_text_unless_raised_with_another():
    assert TooManyUnpaid("Pay.").text == str(TooManyUnpaid("Pay.")) == "Pay."
    assert TooManyUnpaid().text == str(TooManyUnpaid()) == TooManyUnpaid.text


def test_customers_do_not_read_the_nodes_own_message():
    error = NoInvoice(NodeError("connection refused"))
    assert str(error) == "connection refused"
    assert error.text.startswith(NodeError.text)
    assert "refused" not in error.text
