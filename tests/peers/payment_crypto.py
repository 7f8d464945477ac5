"""Random card verification values, PIN blocks, message codes and key blocks, made by psec and pyemv.

With a seed as its argument: one line of JSON for each case, for the test that tries ours against it. With `open` as its
argument: reads what ours made, one line of JSON each, and says what stands in it."""

import json
import random
import sys
import warnings

# psec uses single and triple DES, which the library below it would rather not have used.
warnings.simplefilter("ignore")

from cryptography.hazmat.primitives.ciphers.algorithms import AES  # noqa: E402
from cryptography.hazmat.primitives.cmac import CMAC  # noqa: E402
from psec import aes, cvv, des, mac, pinblock, tools, tr31  # noqa: E402
from pyemv import cvv as dynamic  # noqa: E402
from pyemv import kd  # noqa: E402


def digits(chance, least, most):
    return "".join(chance.choices("0123456789", k=chance.randint(least, most)))


def verification(chance, draw):
    key, pan = draw(16), digits(chance, 12, 19)
    expiry = "%02d%02d" % (chance.randint(0, 99), chance.randint(1, 12))
    service = chance.choice(["000", "999", digits(chance, 3, 3)])
    value = cvv.generate_cvv(key, pan, expiry, service)
    # Where the cipher gives fewer than three decimal digits, psec gives fewer.
    if len(value) == 3:
        return {"key": key.hex(), "account": pan, "expiry": expiry, "service": service, "value": value}
    return None


def dynamic_verification(chance, draw):
    key, pan, psn = draw(16), digits(chance, 13, 19), "%02d" % chance.randint(0, 99)
    template, atc, un = draw(chance.randint(17, 76)), draw(2), draw(4)
    # pyemv leaves out the zeros on the left.
    code = dynamic.generate_cvc3(kd.derive_icc_mk_a(key, pan, psn), template, atc, un).zfill(5)
    return {
        "key": key.hex(),
        "account": pan,
        "sequence": int(psn),
        "template": template.hex(),
        "counter": atc.hex(),
        "unpredictable": un.hex(),
        "value": code,
    }


def pin_block(chance, draw):
    pin, pan, form = digits(chance, 4, 12), digits(chance, 13, 19), chance.choice([0, 3, 4])
    if form == 4:
        key = draw(chance.choice([16, 24, 32]))
        field = aes.encrypt_aes_ecb(key, pinblock.encode_pin_field_iso_4(pin))
        block = aes.encrypt_aes_ecb(key, tools.xor(field, pinblock.encode_pan_field_iso_4(pan)))
    else:
        key = draw(16)
        encode = pinblock.encode_pinblock_iso_0 if form == 0 else pinblock.encode_pinblock_iso_3
        block = des.encrypt_tdes_ecb(key, encode(pin, pan))
    return {"key": key.hex(), "format": form, "account": pan, "pin": pin, "block": block.hex()}


def message_code(chance, draw):
    message, padding = draw(chance.randint(1, 200)), chance.choice([1, 2])
    if chance.random() < 0.5:
        key = draw(8)
        code = mac.generate_cbc_mac(key, message, padding)
    else:
        key = draw(16)
        code = mac.generate_retail_mac(key[:8], key[8:], message, padding)
    return {"key": key.hex(), "message": message.hex(), "padding": padding, "code": code.hex()}


def key_block(chance, draw):
    kbpk, key = draw(chance.choice([16, 24, 32])), draw(16)
    algorithm = chance.choice("TA")
    mode, version = chance.choice("XN"), digits(chance, 2, 2)
    header = tr31.Header("D", "E0", algorithm, mode, version, chance.choice("ESN"))
    if chance.random() < 0.3:
        header.blocks["KS"] = draw(chance.randint(1, 12)).hex().upper()
    if chance.random() < 0.1:
        header.blocks["10"] = draw(200).hex().upper()
    block = tr31.KeyBlock(kbpk, header).wrap(key, chance.choice([None, 24, 32]))
    if algorithm == "T":
        check = des.generate_kcv(key, 3)
    else:
        zeros = CMAC(AES(key))
        zeros.update(bytes(16))
        check = zeros.finalize()[:3]
    return {
        "transport": kbpk.hex(),
        "algorithm": algorithm,
        "block": block,
        "check": check.hex().upper(),
    }


KINDS = {
    "verification": verification,
    "dynamic": dynamic_verification,
    "pin": pin_block,
    "message": message_code,
    "block": key_block,
}


def make(seed):
    chance = random.Random(seed)
    for kind, draw_case in KINDS.items():
        made = 0
        while made < 200:
            case = draw_case(chance, chance.randbytes)
            if case is not None:
                print(json.dumps({"kind": kind, **case}))
                made += 1


def opened(case):
    key, data = bytes.fromhex(case["key"]), case["data"]
    if case["kind"] == "block":
        return tr31.unwrap(key, data)[1].hex()
    block, pan = bytes.fromhex(data), case["account"]
    if case["format"] == 4:
        field = tools.xor(aes.decrypt_aes_ecb(key, block), pinblock.encode_pan_field_iso_4(pan))
        return pinblock.decode_pin_field_iso_4(aes.decrypt_aes_ecb(key, field))
    decode = pinblock.decode_pinblock_iso_0 if case["format"] == 0 else pinblock.decode_pinblock_iso_3
    return decode(des.decrypt_tdes_ecb(key, block), pan)


def main():
    if sys.argv[1] != "open":
        make(int(sys.argv[1]))
        return
    for line in sys.stdin:
        print(opened(json.loads(line)))


if __name__ == "__main__":
    main()
