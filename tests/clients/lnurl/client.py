"""lnurl as a wallet, as a program for tests; it pays nothing itself.

Each line in and out is JSON: {"lnurl", "msat", "comment"} asks for an invoice, {"verify"} whether
one is paid, and {"login", "seed"} signs a challenge. An exception of the library is an "error".
"""

import asyncio
import json
import sys

import bolt11
import lnurl


async def invoice(asked: dict) -> dict:
    who = await lnurl.handle(asked["lnurl"])
    if not who.ok:
        return {"error": who.reason}
    answer = await lnurl.execute_pay_request(who, asked["msat"], asked["comment"])
    read = bolt11.decode(answer.pr)
    return {
        "pr": answer.pr,
        "msat": read.amount_msat,
        "is_of_metadata": read.description_hash == who.metadata.h,
        "metadata": who.metadata.list(),
        "thanks": answer.successAction.message,
        "disposable": answer.disposable,
        "verify": str(answer.verify),
    }


async def verified(asked: dict) -> dict:
    model = lnurl.models.LnurlPayVerifyResponse
    return (await lnurl.core.get(asked["verify"], response_class=model)).model_dump(mode="json")


async def login(asked: dict) -> dict:
    # The library's execute_login drops the query of the URL.
    told = await lnurl.handle(asked["login"])
    linking, _ = lnurl.lnurlauth_derive_linking_key(asked["seed"], told.callback.host)
    key, sig = lnurl.lnurlauth_signature(told.k1, linking)
    url = f"{lnurl.decode(asked['login']).url}&sig={sig}&key={key}"
    return (await lnurl.core.get(url)).model_dump(mode="json")


KINDS = {"verify": verified, "login": login}

for line in sys.stdin:
    asked = json.loads(line)
    try:
        answer = asyncio.run(next((KINDS[kind] for kind in KINDS if kind in asked), invoice)(asked))
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
