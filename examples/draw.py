"""Have a text drawn as a QR code, paid by its length: draw.py http://127.0.0.1:5002 <text>

$PAY is a command that pays the invoice it is given and prints the preimage. The picture is saved as
code.png.
"""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import requests

gate, session = sys.argv[1], requests.Session()
work = {"data": sys.argv[2].encode(), "headers": {"Content-Type": "text/plain"}, "timeout": 30}
if (answer := session.post(f"{gate}/queue/", **work)).status_code == 402:
    pay = [*shlex.split(os.environ["PAY"]), answer.json()["invoice"]]
    preimage = subprocess.check_output(pay, text=True).strip()
    session.headers["Authorization"] = f"L402 {answer.json()['macaroon']}:{preimage}"
    answer = session.post(f"{gate}/queue/", **work)
answer.raise_for_status()
while (code := session.get(gate + answer.json()["job"], timeout=30)).status_code == 202:
    time.sleep(1)
code.raise_for_status()
Path("code.png").write_bytes(code.content)
print(answer.json()["cost_msat"], "msat")
