"""The two ends of each ffmpeg command: how an input is opened, and how a graph becomes an argument vector. Pure."""

from __future__ import annotations

from typing import Any

import ffmpeg

from services.runtime.media import progress, sandbox


def opened(location: str, *, images: bool = False, copyts: bool = False, **options: Any) -> Any:
    """An input: a path, a signed URL or `pipe:0`, read by nothing that opens further files. `copyts`: its own times stay."""
    url = sandbox.as_url(location)
    return ffmpeg.input(url, **sandbox.reading(url, images=images), **({"copyts": None} if copyts else {}), **options)


def compiled(program: str, outputs: list[Any], *, threads: int = 0) -> list[str]:
    """The argument vector of outputs that belong to one process."""
    node = ffmpeg.merge_outputs(*outputs) if len(outputs) > 1 else outputs[0]
    words = ["-hide_banner", "-nostdin", "-v", sandbox.VERBOSITY, *progress.ARGUMENTS]
    if threads:
        words += ["-filter_complex_threads", str(threads)]
    return [str(word) for word in ffmpeg.compile(node.global_args(*words), cmd=program, overwrite_output=True)]
