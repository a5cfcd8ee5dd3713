"""Forms that only our own pages may send.

Today's browsers say with each request which site it comes from (Sec-Fetch-Site), and no page can
make them lie. They need no token, and so no cookie, before there is something to remember. All
others, such as text browsers, get a session with a token in it.
"""

from flask import g, request, session
from flask_wtf import FlaskForm
from flask_wtf.csrf import CSRFError, CSRFProtect, generate_csrf

SAYS_ITS_SITE = "Sec-Fetch-Site"


class Token(FlaskForm.Meta.csrf_class):
    """A form's token; empty for browsers that need none."""

    def generate_csrf_token(self, csrf_token_field):
        if not session and SAYS_ITS_SITE in request.headers:
            return ""
        return super().generate_csrf_token(csrf_token_field)


class Protection(CSRFProtect):
    def protect(self, apply_exemptions=False):
        is_ours = request.headers.get(SAYS_ITS_SITE) == "same-origin"
        # A token that is sent must be right in any case.
        if request.method == "POST" and is_ours and self._get_csrf_token() is None:
            g.csrf_valid = True
            return
        try:
            super().protect(apply_exemptions)
        except CSRFError:
            # Something on the way may take that header from some requests: the next form of this
            # browser has a token.
            generate_csrf()
            raise
