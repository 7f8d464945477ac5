"""ISO 8583 as pyiso8583 speaks it: the three dialects written down a second time, from the standard and not from the
daemon's own files, and frames on a socket."""

import copy
import socket
import struct

import iso8583


def _text(length, size=0):
    return {"data_enc": "ascii", "len_enc": "ascii", "len_type": size, "max_len": length, "desc": ""}


def _bytes(length, size=0):
    return {"data_enc": "b", "len_enc": "ascii", "len_type": size, "max_len": length, "desc": ""}


# Elements of class n; the rest that these peers use is text or bytes.
NUMERIC_FIXED = {3: 6, 4: 12, 7: 10, 11: 6, 12: 6, 13: 4, 14: 4, 15: 4, 18: 4, 19: 3, 22: 3, 23: 3, 25: 2, 70: 3, 90: 42}
NUMERIC_LL = {2: 19, 32: 11, 33: 11}

ASCII = {
    "h": _text(0),
    "t": _text(4),
    "p": _text(16),
    "1": _text(16),
    "37": _text(12),
    "38": _text(6),
    "39": _text(2),
    "41": _text(8),
    "42": _text(15),
    "43": _text(40),
    "49": _text(3),
    "52": _bytes(8),
    "54": _text(120, 3),
    "55": _bytes(255, 3),
    "63": _text(999, 3),
    "64": _bytes(8),
    "95": _text(42),
}
for _number, _length in NUMERIC_FIXED.items():
    ASCII[str(_number)] = _text(_length)
for _number, _length in NUMERIC_LL.items():
    ASCII[str(_number)] = _text(_length, 2)
# pyiso8583 wants every element described; those that these peers never use must not come.
for _number in range(2, 129):
    ASCII.setdefault(str(_number), _text(999, 3))

BCD = copy.deepcopy(ASCII)
BCD["t"] = {**BCD["t"], "data_enc": "b", "max_len": 2}
for _name in ("p", "1"):
    BCD[_name] = {**BCD[_name], "data_enc": "b", "max_len": 8}
for _number in NUMERIC_FIXED:
    BCD[str(_number)] = {**BCD[str(_number)], "data_enc": "b", "len_count": "nibbles", "left_pad": "0"}
for _number in NUMERIC_LL:
    BCD[str(_number)] = {
        **BCD[str(_number)],
        "data_enc": "b",
        "len_enc": "bcd",
        "len_type": 1,
        "len_count": "nibbles",
        "left_pad": "0",
    }
for _number in ("54", "55", "63"):
    BCD[_number] = {**BCD[_number], "len_enc": "bcd", "len_type": 2}

BINARY_BITMAP = copy.deepcopy(ASCII)
for _name in ("p", "1"):
    BINARY_BITMAP[_name] = {**BINARY_BITMAP[_name], "data_enc": "b", "max_len": 8}

DIALECTS = {"iso87-ascii": ASCII, "iso87-ascii-binary-bitmap": BINARY_BITMAP, "iso87-bcd": BCD}


class Wire:
    """One connection: frames of a two-byte length, a fixed header, a message."""

    def __init__(self, stream, dialect, header=b""):
        self.stream = stream
        self.spec = DIALECTS[dialect]
        self.header = header
        self.seen = bytearray()

    @classmethod
    def connect(cls, address, dialect):
        host, port = address.rsplit(":", 1)
        return cls(socket.create_connection((host, int(port)), timeout=60), dialect)

    def send(self, message, header=None):
        encoded, _ = iso8583.encode(dict(message), self.spec)
        frame = (self.header if header is None else header) + bytes(encoded)
        self.stream.sendall(struct.pack(">H", len(frame)) + frame)

    def receive(self):
        """The next message and its header; none at the end of the stream."""
        length = self._exactly(2)
        if length is None:
            return None, b""
        frame = self._exactly(struct.unpack(">H", length)[0])
        if frame is None:
            return None, b""
        self.seen += frame
        header, message = frame[: len(self.header)], frame[len(self.header) :]
        decoded, _ = iso8583.decode(message, self.spec)
        return decoded, header

    def _exactly(self, wanted):
        read = b""
        while len(read) < wanted:
            piece = self.stream.recv(wanted - len(read))
            if not piece:
                return None
            read += piece
        return read


def token_items(value):
    """The items of usage TK in element 63: {usage, 3-digit length, {id, 2-digit length, value}...}."""
    items, at = {}, 0
    while at < len(value):
        usage, length = value[at : at + 2], int(value[at + 2 : at + 5])
        body, at = value[at + 5 : at + 5 + length], at + 5 + length
        inside = 0
        while usage == "TK" and inside < len(body):
            name, size = body[inside : inside + 2], int(body[inside + 2 : inside + 4])
            items[name] = body[inside + 4 : inside + 4 + size]
            inside += 4 + size
    return items
