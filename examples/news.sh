#!/bin/sh
# Read pages that are sold by the week: news.sh http://127.0.0.1:5002/news/ storm.html market.html
#
# $PAY is a command that pays the invoice it is given and prints the preimage. The pass is kept in the
# file `pass`.
set -eu
umask 077
touch pass
site=$1
shift

get() {
  curl -s -o page -w '%{http_code}' -H @pass "$site$1"
}

for page; do
  if [ "$(get "$page")" = 402 ]; then
    preimage=$($PAY "$(jq -r .invoice page)")
    echo "Authorization: L402 $(jq -r .macaroon page):$preimage" > pass
    [ "$(get "$page")" = 200 ]
  fi
  cat page
done
