"""Every `code` of a problem: its status, and what it means."""

CODES = {
    "bad_request": (400, "The request cannot be read, or `errors` says what is wrong with it."),
    "bad_key": (400, "The Idempotency-Key is too short or long, or has spaces."),
    "unauthorized": (401, "No credential, or one that is not valid. No invoice is made."),
    "payment_required": (402, "Pay the invoice, then send the same with the credential."),
    "not_capable": (403, "The credential lacks the capability that this needs."),
    "not_whole": (403, "Only a whole credential may set this."),
    "unknown": (404, "Nothing of this name is in this hosting, or nobody of it takes tips."),
    "not_found": (404, "There is nothing at this address."),
    "name_taken": (409, "The username is taken, or reserved for a while after its hosting ended."),
    "taken": (409, "This name is in use: in this hosting, or in another one."),
    "sold_out": (409, "There is not that much space left right now."),
    "changed": (409, "The credential has paid for something other than this body asks for."),
    "ordered": (409, "The order of this Idempotency-Key is paid: send its credential as well."),
    "refused": (409, "Nothing is sold to this hosting as it is now; `detail` says why."),
    "too_late": (409, "This was paid when the hosting was being deleted, and bought nothing."),
    "size_waits": (409, "Another size has been ordered already and comes first: `order`."),
    "full": (409, "All that is included and paid for is in use right now: send the same again."),
    "closing": (409, "The hosting is being closed: nothing in it can be changed."),
    "no_mail": (409, "This shop sends no mail."),
    "paid": (409, "The order is paid."),
    "just_paid": (409, "A payment has just arrived: nothing was closed."),
    "request_entity_too_large": (413, "The body has more than 64 KiB."),
    "too_many_unpaid": (429, "Too many unpaid orders: pay one, or wait until they expire."),
    "too_many_requests": (429, "Too many orders or changes in a short time."),
    "too_many_mails": (429, "A link was mailed to this address today, or to several others."),
    "not_settled": (503, "The payment is being recorded. Pay nothing twice."),
    "checking": (503, "The order is being prepared, or checked for a last-second payment."),
    "takes_effect": (503, "It is paid, and takes effect in a moment."),
    "setting_up": (503, "The hosting is still being set up."),
    "node_down": (503, "Our Lightning node does not answer. Nothing was charged."),
    "restoring": (503, "The shop was restored from a backup: nothing is sold for a while."),
    "service_unavailable": (503, "We cannot answer right now. Nothing is lost."),
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
SALE = ("ordered", "too_many_unpaid", "checking", "node_down", "restoring")
SIZE_SALE = ("refused", "sold_out", "size_waits", "takes_effect", "setting_up")
CHANGE = ("setting_up", "closing")
ONE = ("unknown", "not_found")
