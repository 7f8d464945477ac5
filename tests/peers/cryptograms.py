"""Random card payments, signed and answered by pyemv: one line of JSON each, for the test that checks them.

Takes the seed as its only argument."""

import json
import random
import sys

from pyemv import cvn

APPROVED, DECLINED = bytes.fromhex("00800000"), bytes(4)
ELEMENTS = [
    ("tag_9f02", 6),
    ("tag_9f03", 6),
    ("tag_9f1a", 2),
    ("tag_95", 5),
    ("tag_5f2a", 2),
    ("tag_9a", 3),
    ("tag_9c", 1),
    ("tag_9f37", 4),
    ("tag_82", 2),
    ("tag_9f36", 2),
]


def visa(version):
    """Issuer data and the named parts of it that pyemv takes, for a version of Visa's."""

    def make(draw):
        data = bytes([6, 1, version]) + draw(4)
        return data, {"cvr": data[3:7]} if version == 0x0A else {"tag_9f10": data}

    return make


def m_chip(version):
    def make(draw):
        data = bytes([1, version]) + draw(16)
        parts = {"cvr": data[2:8]}
        if version & 1:
            parts["counters"] = data[10:18]
        return data, parts

    return make


def method_1(*tags):
    def answer(card, tags_of, arqc, code, _):
        return card.generate_arpc(tag_9f26=arqc, arpc_rc=code, **{tag: tags_of[tag] for tag in tags}) + code

    return answer


def method_2(card, tags_of, arqc, _, status):
    return card.generate_arpc(tag_9f26=arqc, tag_9f36=tags_of["tag_9f36"], csu=status) + status


PROFILES = {
    "visa-cvn-10": (cvn.VisaCVN10, visa(0x0A), method_1()),
    "visa-cvn-18": (cvn.VisaCVN18, visa(0x12), method_2),
    "visa-cvn-22": (cvn.VisaCVN22, visa(0x22), method_2),
    "mchip-cvn-10": (cvn.MasterCardCVN16, m_chip(0x10), method_1()),
    "mchip-cvn-11": (cvn.MasterCardCVN17, m_chip(0x11), method_1()),
    "mchip-cvn-14": (cvn.MasterCardCVN20, m_chip(0x14), method_1("tag_9f36")),
    "mchip-cvn-15": (cvn.MasterCardCVN21, m_chip(0x15), method_1("tag_9f36")),
}


def main():
    chance = random.Random(int(sys.argv[1]))
    draw = chance.randbytes
    for name, (kind, issuer_data, respond) in PROFILES.items():
        for _ in range(4):
            key = draw(16)
            for _ in range(50):
                pan = "".join(chance.choices("0123456789", k=chance.randint(12, 19)))
                psn = "%02d" % chance.randint(0, 99)
                card = kind(key, key, key, pan, psn)
                tags = {tag: draw(length) for tag, length in ELEMENTS}
                data, parts = issuer_data(draw)
                arqc = card.generate_ac(**tags, **parts)
                approved = chance.random() < 0.5
                code, status = (b"00", APPROVED) if approved else (b"51", DECLINED)
                case = {
                    "profile": name,
                    "key": key.hex(),
                    "account": pan,
                    "sequence": int(psn),
                    "elements": [tags[tag].hex() for tag, _ in ELEMENTS],
                    "issuerData": data.hex(),
                    "cryptogram": arqc.hex(),
                    "approved": approved,
                    "code": code.decode(),
                    "answer": respond(card, tags, arqc, code, status).hex(),
                }
                print(json.dumps(case))


if __name__ == "__main__":
    main()
