"""An issuer that the daemon dials: answers sign-on and echo, approves, declines one amount, acknowledges reversals."""

import socket
import threading

from wire import Wire

DECLINED_AMOUNT = "000000005100"


class Issuer:
    """Listens on a free loopback port until the process ends."""

    def __init__(self, dialect, header=b""):
        self.dialect = dialect
        self.header = header
        self.messages = []
        self.faults = []
        self._arrived = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def wait_for(self, wanted, what, seconds=60):
        """The first message that `wanted` accepts, now or within the time."""
        with self._arrived:
            found = lambda: next((message for message in self.messages if wanted(message)), None)
            if not self._arrived.wait_for(lambda: found() is not None, seconds):
                raise AssertionError(f"the {self.dialect} issuer never saw {what}")
            return found()

    def _accept(self):
        while True:
            stream, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream):
        wire = Wire(stream, self.dialect, self.header)
        try:
            while True:
                message, header = wire.receive()
                if message is None:
                    return
                with self._arrived:
                    self.messages.append(message)
                    self._arrived.notify_all()
                answer = self._answer(message)
                if answer is not None:
                    wire.send(answer, header)
        except OSError:
            return
        except Exception as fault:  # whatever pyiso8583 could not read fails the test
            self.faults.append(f"{self.dialect} issuer: {fault!r}")

    def _answer(self, message):
        kind = message["t"][1]
        echoed = {
            "8": ("7", "11", "33", "70"),
            "4": ("2", "3", "4", "7", "11", "32", "33", "37", "41", "42", "49", "90"),
        }.get(kind, ("2", "3", "4", "7", "11", "12", "13", "32", "33", "37", "41", "42", "49"))
        if message["t"][2] not in "02":
            return None
        answer = {name: message[name] for name in echoed if name in message}
        function = {"0": "1", "2": "3"}[message["t"][2]]
        answer["t"] = message["t"][:2] + function + "0"
        if kind in "12" and message.get("4") == DECLINED_AMOUNT:
            answer["39"] = "51"
        else:
            answer["39"] = "00"
            if kind in "12":
                answer["38"] = "A" + message["11"][1:]
        return answer
