#!/bin/sh
# Keep files on disk space that is sold by the week: disk.sh http://127.0.0.1:5002/disk/ <file>…
#
# $PAY is a command that pays the invoice it is given and prints the preimage. Whoever has the file
# `key` can use the space.
set -eu
umask 077
touch key
disk=$1
shift

put() {
  curl -s -o answer -w '%{http_code}' -H @key -T "$1" "$disk${1##*/}"
}

for file; do
  status=$(put "$file")
  if [ "$status" = 402 ]; then
    preimage=$($PAY "$(jq -r .invoice answer)")
    echo "Authorization: L402 $(jq -r .macaroon answer):$preimage" > key
    status=$(put "$file")
  fi
  [ "$status" -lt 300 ]
  curl -s -f -H @key "$disk${file##*/}" | cmp - "$file"
done
