"""l402-requests as a program for tests: it reads a request from each line, and prints the answer on
one. When it wants to pay, it prints {"pay": invoice} and reads {"preimage": …}. {"forget": true}
makes it forget its credentials.
"""

import json
import sys

from l402_requests import L402Client, L402Error, WalletBase


class AskedWallet(WalletBase):
    async def pay_invoice(self, bolt11):
        say({"pay": bolt11})
        return json.loads(sys.stdin.readline())["preimage"]


def say(what):
    print(json.dumps(what), flush=True)


client = L402Client(wallet=AskedWallet(), timeout=20)
for line in iter(sys.stdin.readline, ""):
    request = json.loads(line)
    if "forget" in request:
        client = L402Client(wallet=AskedWallet(), timeout=20)
        continue
    try:
        answer = client.request(request["method"], request["url"], json=request["body"])
        say({"status": answer.status_code, "body": answer.json()})
    except L402Error as error:
        say({"error": str(error)})
