"""Readers that misbehave as decoders may on hostile files, for the tests of the sandbox."""

import os
import signal
import subprocess
from typing import ClassVar, Literal

from snn_datasets import Reader, Source
from snn_datasets.base.kinds import RecordingKind
from snn_datasets.base.recordings import Image

Misbehavior = Literal["hangs", "spins", "crashes", "ends", "grows", "writes", "claims"]


class Misbehaving(Reader):
    """Misbehave instead of reading a file."""

    how: Misbehavior
    gives: ClassVar[RecordingKind] = "image"

    def read(self, source: Source) -> Image:
        match self.how:
            case "hangs":
                subprocess.run(["sleep", "98765.25"], check=False)
            case "spins":
                while True:
                    pass
            case "crashes":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "ends":
                os._exit(0)
            case "grows":
                bytearray(3 * 2**30)
            case "writes":
                source.path.with_name("left behind").write_bytes(bytes(10))
            case "claims":
                raise ValueError(f"{source.path} is <b>bad</b>\x1b[2J")
        raise AssertionError
