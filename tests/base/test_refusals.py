"""What a refusal says, to whom."""

from lightningspace.outside.node import NodeError
from lightningspace.rules.orders import NoInvoice, TooManyUnpaid


def test_a_kind_says_the_same_unless_it_was_raised_with_words_of_its_own():
    assert TooManyUnpaid("Pay.").text == str(TooManyUnpaid("Pay.")) == "Pay."
    assert TooManyUnpaid().text == str(TooManyUnpaid()) == TooManyUnpaid.text


def test_what_the_node_said_is_not_what_a_customer_reads():
    error = NoInvoice(NodeError("connection refused"))
    assert str(error) == "connection refused"
    assert error.text.startswith(NodeError.text)
    assert "refused" not in error.text
