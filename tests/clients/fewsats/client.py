"""Fewsats' l402 as a program for tests, with the protocol of l402-requests/client.py. It keeps a
token for each address.
"""

import json
import sys

from l402.client import PreimageProvider, requests
from l402.client.credentials import SqliteCredentialsService


class AskedWallet(PreimageProvider):
    def get_preimage(self, invoice):
        say({"pay": invoice})
        return json.loads(sys.stdin.readline())["preimage"]


def say(what):
    print(json.dumps(what), flush=True)


requests.configure(AskedWallet(), SqliteCredentialsService(":memory:"))
for line in iter(sys.stdin.readline, ""):
    request = json.loads(line)
    if "forget" in request:
        requests.configure(AskedWallet(), SqliteCredentialsService(":memory:"))
        continue
    try:
        answer = requests.request(
            request["method"], request["url"], json=request["body"], timeout=20
        )
        say({"status": answer.status_code, "body": answer.json()})
    except Exception as error:
        say({"error": repr(error)})
