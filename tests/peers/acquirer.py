"""An acquirer: signs on, sends echoes and payments, reverses, and checks what comes back byte by byte."""

import base64
import itertools
import time
from datetime import datetime, timezone

from wire import Wire, token_items


# No two messages of one run have the same number, whoever sends them.
NUMBERS = itertools.count(1)


def expect(found, wanted, what):
    if found != wanted:
        raise AssertionError(f"{what}: {found!r} where {wanted!r} was expected")


def encodings(pan):
    """The ways in which a PAN may lie in bytes."""
    packed = lambda digits: bytes.fromhex(digits)
    yield pan.encode("ascii")
    yield pan.encode("cp500")
    for digits in (pan, pan[1:]):
        digits = digits[: len(digits) // 2 * 2]
        yield packed(digits)
        yield packed(digits).hex().encode()
    yield pan.encode("ascii").hex().encode()
    for phase in range(3):
        coded = base64.b64encode(b"\0" * phase + pan.encode("ascii"))
        yield coded[4 : len(coded) - 4]


class Acquirer:
    def __init__(self, address, dialect):
        self.wire = Wire.connect(address, dialect)
        self.dialect = dialect
        self.institution = "00000000042"

    def numbers(self):
        now = datetime.now(timezone.utc)
        return {"7": now.strftime("%m%d%H%M%S"), "11": "%06d" % next(NUMBERS)}

    def ask(self, message):
        self.wire.send(message)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            answer, _ = self.wire.receive()
            if answer is None:
                raise AssertionError(f"{self.dialect}: the connection was closed")
            if answer["t"] == "0800":  # the daemon's own echo
                self.wire.send({**{n: answer[n] for n in ("7", "11", "70")}, "t": "0810", "39": "00"})
            elif answer.get("11") == message["11"]:
                return answer
        raise AssertionError(f"{self.dialect}: no answer to {message['t']}")

    def network(self, code):
        answer = self.ask({"t": "0800", **self.numbers(), "33": self.institution, "70": code})
        expect((answer["t"], answer["39"], answer["70"]), ("0810", "00", code), f"{self.dialect} 0800 {code}")

    def payment(self, mti, account, expiry, amount, **more):
        numbers = self.numbers()
        return {
            "t": mti,
            "2": account,
            "3": "000000",
            "4": amount,
            **numbers,
            "12": numbers["7"][4:],
            "13": numbers["7"][:4],
            "14": expiry,
            "18": "5411",
            "22": "100",
            "25": "00",
            "32": self.institution,
            "37": numbers["11"].zfill(12),
            "41": "TERM0001",
            "42": "PEERSHOP1".ljust(15),
            "49": "978",
            **more,
        }

    def wait_for_issuer(self, pan, expiry):
        """Pays until the issuer of that card is signed on."""
        deadline = time.monotonic() + 60
        while self.ask(self.payment("0100", pan, expiry, "000000000001"))["39"] == "91":
            if time.monotonic() > deadline:
                raise AssertionError(f"the issuer of {pan[:6]} never came up")
            time.sleep(0.01)

    def pay(self, request, code):
        """Sends it and checks that everything that must be echoed is, and nothing else came of the account."""
        answer = self.ask(request)
        what = f"{self.dialect} {request['t']} of {request['4']}"
        expect(answer["39"], code, what)
        expect(answer["t"], request["t"][:2] + "10", what)
        for name in ("2", "3", "4", "7", "11", "12", "13", "32", "37", "41", "42", "49"):
            expect(answer.get(name), request[name], f"{what}, element {name}")
        expect("38" in answer, code == "00", f"{what}, an approval number")
        return answer

    def pay_by_token(self, request, code, pan):
        answer = self.pay(request, code)
        if code == "00":
            items = token_items(answer["63"])
            expect(items["06"], pan[-4:], f"{self.dialect}: last four digits")
        return answer

    def reverse(self, request):
        original = request["t"] + request["11"] + request["7"] + self.institution.zfill(11) + "0" * 11
        numbers = self.numbers()
        reversal = {name: value for name, value in request.items() if name not in ("t", "7", "11", "55", "22")}
        reversal = {**reversal, "t": "0400", **numbers, "90": original}
        answer = self.ask(reversal)
        what = f"{self.dialect} 0400 of {request['4']}"
        expect((answer["t"], answer["39"]), ("0410", "00"), what)
        expect(answer.get("90"), original, what)

    def saw_no(self, pan):
        for encoded in encodings(pan):
            if encoded in bytes(self.wire.seen):
                raise AssertionError(f"{self.dialect}: the PAN came to the acquirer")
