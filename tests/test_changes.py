"""Changes of what is wanted, once found to be lost or stuck on their way to the panel."""

from lightningspace import models, wanted
from lightningspace.models import Service
from tests.conftest import work


def on_call(panel, method, act):
    """Do `act` once, while the next such call is under way."""
    acts = [act]

    def before_call(called):
        if called == method and acts:
            acts.pop()()
            models.db.close()  # this thread's

    panel.before_call = before_call


def test_a_generated_password_is_kept_whatever_changes_meanwhile(alice, this_shop, worker, panel):
    this_shop.panel.delete("shell", int(panel.records("shell")[0]["shell_user_id"]))
    wanted.check(alice.id)
    change = {"ssh_key": "ssh-ed25519 " + "A" * 68}
    on_call(
        panel,
        "sites_shell_user_get",
        lambda: wanted.configure(alice.id, "shell", "ls_alice", **change),
    )
    work(worker)
    work(worker)
    made = panel.records("shell")[0]
    own = Service.get(Service.kind == "shell").own_password_sealed
    assert made["ssh_rsa"] == change["ssh_key"]
    assert panel.password_of("shell", made["shell_user_id"]) == this_shop.vault.unseal(own)


def test_a_password_chosen_meanwhile_wins_over_a_generated_one(alice, this_shop, worker, panel):
    this_shop.panel.delete("shell", int(panel.records("shell")[0]["shell_user_id"]))
    wanted.check(alice.id)
    on_call(
        panel,
        "sites_shell_user_get",
        lambda: wanted.set_password(this_shop, alice.id, "shell", "ls_alice", "battery staple"),
    )
    work(worker)
    work(worker)
    made = panel.records("shell")[0]
    assert panel.password_of("shell", made["shell_user_id"]) == "battery staple"
    assert Service.get(Service.kind == "shell").own_password_sealed is None
