"""Output that may lose its reader: a terminal that is closed, or a pipe whose other end has ended."""

import errno
import io
import os
import sys
from typing import TextIO

GONE = (errno.EIO, errno.EPIPE)


class _Output(io.FileIO):
    """A descriptor that is led to the null device once nobody reads it, for all who write to it."""

    def write(self, data: object, /) -> int:
        """All is written, or there is nobody to read it."""
        try:
            return super().write(data)  # type: ignore[arg-type, return-value]
        except OSError as error:
            if error.errno not in GONE:
                raise
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return memoryview(data).nbytes  # type: ignore[arg-type]


def outlive() -> None:
    """From now on no write to standard output or standard error fails because its terminal or pipe is gone."""
    sys.stdout, sys.stderr = _outliving(sys.stdout), _outliving(sys.stderr)


def _outliving(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):  # absent, or somebody's own, such as a notebook's
        return stream
    stream.flush()
    output = _Output(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        output if isinstance(stream.buffer, io.RawIOBase) else io.BufferedWriter(output),  # python -u has no buffer
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
