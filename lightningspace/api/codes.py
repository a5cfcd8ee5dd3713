"""Every `code` of a problem: its status, and what it means."""

CODES = {
    "bad_request": (400, "The request cannot be read, or `errors` says what is wrong with it."),
    "bad_key": (400, "The Idempotency-Key is too short or long, or has blanks."),
    "unauthorized": (401, "No credential, or one that is not good (any more). No invoice comes."),
    "payment_required": (402, "Pay the invoice, then send the same with the credential."),
    "not_capable": (403, "The credential lacks the capability that this needs."),
    "not_whole": (403, "Only a whole credential may set this."),
    "unknown": (404, "There is nothing of this name in this hosting, or nobody of it takes tips."),
    "not_found": (404, "There is no such address."),
    "name_taken": (409, "The username is another's, or rests after one."),
    "taken": (409, "This name is in use: in this hosting, or in another one."),
    "sold_out": (409, "So much space is not free just now."),
    "changed": (409, "The credential has paid for something else than this body asks for."),
    "ordered": (409, "The order of this Idempotency-Key is paid: send its credential along."),
    "refused": (409, "Nothing is sold to this hosting as it is now; `detail` says why."),
    "size_waits": (409, "Another size is ordered already, and comes first: `order`."),
    "full": (409, "All that is included and paid for is used just now: send the same again."),
    "closing": (409, "The hosting is being closed: nothing of it can be changed."),
    "no_mail": (409, "This shop sends no mail."),
    "paid": (409, "The order is paid."),
    "just_paid": (409, "A payment has just arrived: nothing was closed."),
    "request_entity_too_large": (413, "The body has more than 64 KiB."),
    "too_many_unpaid": (429, "Too many unpaid orders: pay one, or wait until they are over."),
    "too_many_requests": (429, "Too many orders or changes in a short time."),
    "too_many_mails": (429, "The address was mailed a link today, or several others were."),
    "not_settled": (503, "The payment is on its way into our books. Pay nothing twice."),
    "checking": (503, "The order is being prepared, or we find out whether it was paid in time."),
    "takes_effect": (503, "It is paid, and takes effect in a moment."),
    "setting_up": (503, "The hosting is still being set up."),
    "node_down": (503, "Our Lightning node does not answer. Nothing was charged."),
    "service_unavailable": (503, "We cannot answer just now. Nothing is lost."),
}
# The title of each status, whatever the code.
TITLES = {
    400: "The request is wrong",
    401: "Not with this credential",
    403: "This credential may not do that",
    404: "Nothing of this name",
    409: "Not as things stand",
    413: "Too much",
    429: "Too often",
    503: "Not now; send the same again soon",
}

# The codes that go with what a route does: sell, change a hosting, address one thing by name.
SALE = ("ordered", "too_many_unpaid", "checking", "node_down")
SIZE_SALE = ("refused", "sold_out", "size_waits", "takes_effect", "setting_up")
CHANGE = ("setting_up", "closing")
ONE = ("unknown", "not_found")
