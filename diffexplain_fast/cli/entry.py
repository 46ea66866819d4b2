"""The first lines of the command ``diffexplain-fast``: what it says is never a reason to lose what it does."""

import io
import sys
from typing import NoReturn, TextIO

_NAME = "diffexplain-fast"


class _Output(io.FileIO):
    """A stream that takes everything, also after nobody reads it any more, or where nothing can be written.

    Attributes:
        failure: the first error, after which nothing more is written.
    """

    failure: OSError | None = None

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        if self.failure is None:
            try:
                return super().write(data)
            except OSError as error:
                self.failure = error
        return memoryview(data).nbytes


def main() -> NoReturn:
    """Run the command with the words of the command line, and exit with its code.

    A closed pipe ends the output and not the work. A character that the output cannot encode is written as an escape
    sequence. Where nothing can be written, as on a full disk, the work is done all the same, and the code is 1.
    """
    outputs: list[_Output] = []
    code: object = 0
    try:
        sys.stdout, sys.stderr = _lasting(sys.stdout, outputs), _lasting(sys.stderr, outputs)
        from diffexplain_fast.cli.main import app  # here, because it loads torch, which takes seconds

        app()
    except KeyboardInterrupt:
        print(f"{_NAME}: interrupted", file=sys.stderr)
        code = 130
    except SystemExit as end:
        code = end.code
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    failures = [output.failure for output in outputs if output.failure is not None]
    for failure in failures:
        if not isinstance(failure, BrokenPipeError):
            print(f"{_NAME}: output: {failure}", file=sys.stderr)
            code = code or 1
    sys.exit(code)  # type: ignore[arg-type]


def _lasting(stream: TextIO, outputs: list[_Output]) -> TextIO:
    """Return a stream that refuses no text; a terminal, and what is no file, are only told how to encode."""
    if not isinstance(stream, io.TextIOWrapper):  # also None, where it was closed before the start
        return stream
    stream.reconfigure(errors="backslashreplace")
    try:
        number = stream.fileno()
    except OSError:
        return stream
    if stream.isatty():
        return stream
    stream.flush()
    outputs.append(_Output(number, "w", closefd=False))
    buffer = io.BufferedWriter(outputs[-1])  # type: ignore[type-var]
    lines, through = stream.line_buffering, stream.write_through
    return io.TextIOWrapper(buffer, stream.encoding, "backslashreplace", line_buffering=lines, write_through=through)
