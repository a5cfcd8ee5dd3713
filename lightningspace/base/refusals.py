"""Refusals: why something is not done, in words for whoever asked for it."""


class Refusal(Exception):
    """Becomes the answer to a request.

    Pages show `text`, beside the `field` of their form that it is about, if any. The API answers
    with `status`, with `code` for programs, and with `detail` (or else `text`) for whoever reads
    their logs. `facts` are further members of its answer. The same request may be sent again after
    `retry_after` seconds, unless that is 0.
    """

    status = 409
    code = "refused"
    text = ""
    detail = ""
    field: str | None = None
    retry_after = 0

    def __init__(self, text: str = "", **facts):
        super().__init__(text or self.text)
        self.text = text or self.text
        self.facts = facts
