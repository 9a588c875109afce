"""The child that decodes untrusted DICOM: reads length-prefixed bytes on stdin, answers on stdout, within limits.

Answer, length-prefixed: `ANSWER` (whether it was decoded, CPU seconds used since the start), then JSON and pixels. Ends
when stdin closes.
"""

import json
import resource
import struct
import sys
import time
from typing import BinaryIO

MEMORY_BYTES = 2 << 30
CPU_SECONDS = 600
"""Of a child's whole life, so that nothing it decodes can lift it."""
ANSWER = struct.Struct("<?d")


def main() -> None:
    """Serves until stdin closes."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    import logging
    import warnings

    from streaming.dicom import decode
    from streaming.errors import InvalidMessage

    warnings.simplefilter("ignore")  # pydicom's warnings quote values of the file
    logging.disable(logging.CRITICAL)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    _send(sink, b"ready")
    while (data := receive(source)) is not None:
        try:
            header, pixels = decode(data)
        except InvalidMessage as error:
            _send(sink, ANSWER.pack(False, time.process_time()) + json.dumps([error.reason, error.detail]).encode())
        else:
            about = json.dumps([header.study_uid, header.series_uid, header.instance_uid, header.modality]).encode()
            told = ANSWER.pack(True, time.process_time()) + struct.pack("<I", len(about)) + about
            _send(sink, told + pixels.tobytes())


def receive(source: BinaryIO) -> bytes | None:
    """One length-prefixed message; None at the end."""
    head = source.read(8)
    if len(head) < 8:
        return None
    return source.read(struct.unpack("<Q", head)[0])


def _send(sink: BinaryIO, data: bytes) -> None:
    sink.write(struct.pack("<Q", len(data)) + data)
    sink.flush()


if __name__ == "__main__":
    main()
