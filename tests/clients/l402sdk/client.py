"""l402sdk as a program for tests, with the protocol of l402-requests/client.py. It pays through
Core Lightning's REST interface, which a child process plays: l402sdk blocks all threads while it
waits.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from l402 import L402Client


class ClnRest(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        say({"pay": asked["bolt11"]})
        preimage = json.loads(sys.stdin.readline())["preimage"]
        self.send_response(201)
        self.end_headers()
        paid = {"payment_preimage": preimage, "status": "complete", "amount_sent_msat": 0}
        self.wfile.write(json.dumps(paid | {"amount_msat": 0, "payment_hash": ""}).encode())

    def log_message(self, *args):
        pass


def say(what):
    print(json.dumps(what), flush=True)


node = HTTPServer(("127.0.0.1", 0), ClnRest)
if os.fork() == 0:
    node.serve_forever()
url = f"http://127.0.0.1:{node.server_port}"
client = L402Client.with_cln_rest(url, "a rune")
for line in iter(sys.stdin.readline, ""):
    request = json.loads(line)
    if "forget" in request:
        client = L402Client.with_cln_rest(url, "a rune")
        continue
    try:
        if request["method"] == "POST":
            answer = client.post(request["url"], json.dumps(request["body"]))
        else:
            answer = client.get(request["url"])
        say({"status": answer.status, "body": json.loads(answer.text())})
    except Exception as error:
        say({"error": repr(error)})
