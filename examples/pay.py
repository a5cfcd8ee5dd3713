"""Pay an invoice from the sandbox's wallet, and print the preimage: pay.py <invoice>

Of a Core Lightning node of yours: lightning-cli pay <invoice> | jq -r .payment_preimage
"""

import sys

from pyln.client import LightningRpc

print(LightningRpc("instance/sandbox/wallet-rpc").pay(sys.argv[1])["payment_preimage"])
