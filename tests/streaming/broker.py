"""What a gateway delivers to, for tests of its door alone."""

import threading

from streaming.blobs import FileBlobStore
from streaming.errors import Unavailable


class Broker:
    """Stands where Kafka is: confirms at once, after `confirm` is set, or not at all."""

    def __init__(self, tmp_path):
        self.blobs = FileBlobStore(tmp_path)
        self.records, self.refused = [], []
        self.away = False
        self.confirm = threading.Event()
        self.confirm.set()
        self.asked = threading.Event()

    def deliver(self, records):
        self.asked.set()
        assert self.confirm.wait(30)
        if self.away:
            raise Unavailable("away")
        self.records += records

    def refuse(self, door, key, data, error):
        if self.away:
            raise Unavailable("away")
        self.refused.append((door, key, data, error.reason))
