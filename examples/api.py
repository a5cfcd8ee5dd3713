"""Use an API that is sold by the request: api.py "http://127.0.0.1:5002/v1/roll?dice=2" <times>

$PAY is a command that pays the invoice it is given and prints the preimage. When the bundle is used
up, another is bought.
"""

import os
import shlex
import subprocess
import sys

from l402_requests import BudgetController, CredentialCache, L402Client, WalletBase


class Command(WalletBase):
    def pay_invoice_sync(self, bolt11):
        pay = [*shlex.split(os.environ["PAY"]), bolt11]
        return subprocess.check_output(pay, text=True).strip()

    async def pay_invoice(self, bolt11):
        return self.pay_invoice_sync(bolt11)


budget, cache = BudgetController(max_sats_per_request=10), CredentialCache(default_ttl=None)
client = L402Client(wallet=Command(), budget=budget, credential_cache=cache)
for _ in range(int(sys.argv[2])):
    answer = client.get(sys.argv[1]).raise_for_status()
    print(answer.json()["rolled"], answer.headers["X-Gate-Balance"], "msat left")
