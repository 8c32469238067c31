"""Standard output and error that keep working after their terminal or pipe is closed."""

import errno
import io
import os
import sys
from typing import TextIO

GONE = (errno.EIO, errno.EPIPE)


class _Output(io.FileIO):
    """A descriptor that is redirected to the null device once its reader is gone."""

    def write(self, data: object, /) -> int:
        """Write all data, or discard it if the reader is gone."""
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
    """Keep writes to standard output and error from failing when their reader is gone."""
    sys.stdout, sys.stderr = _outliving(sys.stdout), _outliving(sys.stderr)


def _outliving(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):  # absent or replaced, as in a notebook
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
