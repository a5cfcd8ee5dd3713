"""Pay an invoice from the sandbox's wallet, and print the preimage: pay.py <invoice>

With your own Core Lightning node: lightning-cli pay <invoice> | jq -r .payment_preimage
"""

import sys

from pyln.client import LightningRpc

print(LightningRpc("instance/sandbox/wallet-rpc").pay(sys.argv[1])["payment_preimage"])
