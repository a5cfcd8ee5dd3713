"""Why something is not done, as whoever asked for it is told."""


class Refusal(Exception):
    """What ends as an answer.

    Pages show `text`, beside the `field` of their form that it is about if there is one. The API
    answers `status` with `code`, for programs, and with `detail`, or else `text`, for whoever reads
    their logs. `facts` are further members of its answer; after `retry_after` seconds the same may
    be sent again.
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
