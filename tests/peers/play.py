"""The independent peer against the daemon, in every dialect, as acquirer and as issuer.

Prints the issuers' addresses as one line of JSON; reads one line of JSON with the daemon's addresses and the
requestor's credential; plays; ends with 0 when everything came out as told."""

import http.client
import itertools
import json
import sys

from acquirer import Acquirer, expect
from pyemv import cvn
from issuer import DECLINED_AMOUNT, Issuer
from wire import token_items

TPDU = bytes.fromhex("6000010002")
CARDS = [
    ("4761730000000011", "2912", "iso87-ascii"),
    ("6228480000000000", "3006", "iso87-bcd"),
    ("5105100000000000", "2908", "iso87-ascii-binary-bitmap"),
]
HEADERS = {"iso87-bcd": TPDU}


def with_check_digit(digits):
    """The number with its last digit made right (Luhn)."""
    total = 0
    for place, digit in enumerate(reversed(digits[:-1])):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return digits[:-1] + str(-total % 10)


def provision(api, credential, pan, expiry, request_id):
    connection = http.client.HTTPConnection(api, timeout=60)
    headers = {
        "Authorization": f"Bearer {credential}",
        "X-Request-Id": request_id,
        "Content-Type": "application/json",
    }
    body = json.dumps({"pan": pan, "panExpiry": expiry, "assuranceMethod": "01"})
    connection.request("POST", "/v1/tokens", body, headers)
    answer = connection.getresponse()
    text = answer.read()
    expect(answer.status, 201, f"POST /v1/tokens ({text[:200]!r})")
    return json.loads(text)


def chip(master_key, token, amount, atc):
    """Element 55 of a tap: what the chip of a Visa CVN 18 card signs."""
    signed = {
        "9f02": amount,
        "9f03": "000000000000",
        "9f1a": "0276",
        "95": "0000000000",
        "5f2a": "0978",
        "9a": "261122",
        "9c": "00",
        "9f37": "52BF4585",
        "82": "1800",
        "9f36": "%04X" % atc,
        "9f10": "06011203A00000",
    }
    card = cvn.VisaCVN18(master_key, master_key, master_key, token, "00")
    cryptogram = card.generate_ac(**{"tag_" + tag: bytes.fromhex(value) for tag, value in signed.items()})
    tags = [*signed.items(), ("9f26", cryptogram.hex()), ("9f27", "80")]
    return "".join(tag + "%02X" % (len(value) // 2) + value for tag, value in tags).upper()


def seen_by_issuer(issuer, request, pan, what):
    same = lambda m: m["t"] == request["t"] and m.get("37") == request["37"]
    message = issuer.wait_for(same, what)
    expect(message["2"], pan, f"{what}: the account that the issuer sees")
    expect(message["4"], request["4"], f"{what}: the amount that the issuer sees")
    return message


def reversed_at_issuer(issuer, original, what):
    same = lambda m: m["t"] == "0420" and m.get("37") == original["37"]
    message = issuer.wait_for(same, what + " reversed")
    data = message["90"]
    expect(data[:20], original["t"] + original["11"] + original["7"], f"{what}: the original as the issuer knows it")
    expect(message["2"], original["2"], f"{what}: the reversed account")


def play(issuers, told):
    counters = itertools.count(1)
    master_key = bytes.fromhex(told["tokenKey"])
    for dialect, address in sorted(told["acquirers"].items()):
        acquirer = Acquirer(address, dialect)
        acquirer.network("001")
        acquirer.network("301")
        for pan, expiry, issuers_dialect in CARDS:
            pan, issuer = with_check_digit(pan), issuers[issuers_dialect]
            what = f"{dialect} to {issuers_dialect}"
            acquirer.wait_for_issuer(pan, expiry)
            clear = acquirer.payment("0200", pan, expiry, "000000001999")
            acquirer.pay(clear, "00")
            seen_by_issuer(issuer, clear, pan, what)
            acquirer.pay(acquirer.payment("0100", pan, expiry, DECLINED_AMOUNT), "51")

            # From here on this acquirer's connection must be free of the PAN.
            token = provision(told["api"], told["credential"], pan, expiry, f"{dialect}-{issuers_dialect}")
            tapping = Acquirer(address, dialect)
            tapping.network("001")
            online = tapping.payment("0200", token["token"], token["tokenExpiry"], "000000002500")
            tapping.pay_by_token(online, "00", pan)
            items = token_items(seen_by_issuer(issuer, online, pan, what + " by token")["63"])
            expect(items["01"], token["token"], f"{what}: the token that the issuer sees")
            tap = tapping.payment("0100", token["token"], token["tokenExpiry"], "000000000750")
            tap.update({"22": "071", "55": chip(master_key, token["token"], tap["4"], next(counters))})
            forged = {**tapping.payment("0100", token["token"], token["tokenExpiry"], "000000000850"), "22": "071"}
            tapping.pay({**forged, "55": tap["55"]}, "57")  # more than was signed
            forged = {**tapping.payment("0100", token["token"], token["tokenExpiry"], "000000000750"), "22": "071"}
            tapping.pay({**forged, "55": tap["55"].replace("9A03261122", "9A03261123")}, "05")
            tapping.pay_by_token(tap, "00", pan)
            seen = seen_by_issuer(issuer, tap, pan, what + " by tap")
            expect("9F26" in seen["55"].upper(), True, f"{what}: the cryptogram that the issuer sees")
            expect("CVAV" in token_items(seen["63"])["08"], True, f"{what}: what the issuer hears of it")
            replayed = {**tapping.payment("0100", token["token"], token["tokenExpiry"], "000000000750"), "22": "071"}
            tapping.pay({**replayed, "55": tap["55"]}, "59")
            tapping.pay_by_token(
                tapping.payment("0200", token["token"], token["tokenExpiry"], DECLINED_AMOUNT), "51", pan
            )
            tapping.pay_by_token(tapping.payment("0200", token["token"], "2001", "000000000100"), "54", pan)
            tapping.reverse(online)
            reversed_at_issuer(issuer, seen_by_issuer(issuer, online, pan, what), what)
            tapping.network("002")
            tapping.saw_no(pan)
            print(f"ok {what}", flush=True)


def main():
    issuers = {name: Issuer(name, HEADERS.get(name, b"")) for _, _, name in CARDS}
    print(json.dumps({name: issuer.address for name, issuer in issuers.items()}), flush=True)
    play(issuers, json.loads(sys.stdin.readline()))
    faults = [fault for issuer in issuers.values() for fault in issuer.faults]
    expect(faults, [], "what the issuers could not read")


if __name__ == "__main__":
    main()
