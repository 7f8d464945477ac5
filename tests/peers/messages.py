"""Encrypted messages by joserfc, for the tests that exchange them.

`messages.py wrap KEY PARTIES TEXT` encrypts TEXT for KEY, a public JWK, PARTIES saying by whom and for whom (`apu,apv`,
or nothing); `messages.py open KEY MESSAGE` shows what KEY, a private JWK, finds in MESSAGE."""

import json
import sys

from joserfc import jwe
from joserfc.jwk import ECKey
from joserfc.util import urlsafe_b64encode

ALLOWED = ["ECDH-ES", "A256GCM"]


def main(what, key, *rest):
    key = ECKey.import_key(json.loads(key))
    if what == "wrap":
        parties, text = rest
        header = {"alg": "ECDH-ES", "enc": "A256GCM", "kid": key.thumbprint()}
        for name, party in zip(["apu", "apv"], filter(None, parties.split(","))):
            header[name] = urlsafe_b64encode(party.encode()).decode()
        print(jwe.encrypt_compact(header, text.encode(), key, algorithms=ALLOWED))
    else:
        (message,) = rest
        print(jwe.decrypt_compact(message, key, algorithms=ALLOWED).plaintext.decode())


main(*sys.argv[1:])
