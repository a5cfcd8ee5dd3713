"""The links in our mails, which start and stop reminders."""

from flask import Blueprint, redirect, render_template, request, url_for

from lightningspace.rules import reminders
from lightningspace.shop import this_shop
from lightningspace.visitors.forms import Button

blueprint = Blueprint("reminders", __name__)


@blueprint.route("/reminders/confirm/<token>", methods=["GET", "POST"])
def confirm_reminders(token):
    # Opening the link is not enough: mail scanners do that, too.
    button = Button()
    try:
        if button.validate_on_submit():
            reminders.confirm(this_shop(), token)
            return redirect(url_for("reminders.confirm_reminders", token=token), 303)
        change = reminders.read(this_shop(), token)
    except reminders.UnknownLink as unknown:
        return render_template("reminders.html", unknown=unknown), 404
    return render_template("reminders.html", change=change, is_done=change.is_done, button=button)


@blueprint.route("/reminders/stop/<token>", methods=["GET", "POST"])
def stop_reminders(token):
    """Mail programs post here themselves (RFC 8058): without a cookie, from anywhere."""
    is_post = request.method == "POST"
    act = reminders.unsubscribe if is_post else reminders.check_stop
    try:
        act(this_shop(), token)
    except reminders.UnknownLink as unknown:
        return render_template("reminders.html", unknown=unknown), 404
    return render_template("reminders.html", is_stop=True, is_done=is_post)
