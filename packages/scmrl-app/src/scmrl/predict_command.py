"""`scmrl predict`: what a run's model says of files that it has not seen.

Nothing here loads PyTorch before the command runs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from scmrl.engine.predict import ClipPrediction

SHOWN = 3
"""Classes of which the probability is shown."""


def predict(
    run: Path,
    /,
    *files: str,
    json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    root: Path | None = None,
) -> int:
    """Tell the classes of your files, which are read as the training's were; senses may be missing.

    `image=cat.png audio=cat.wav` is one clip. Of a folder, and of several files, those that differ in nothing but their
    endings (and folders named after senses) are one clip. Of a manifest, each row is one; columns named after senses
    are read, no label is needed. A video gives its pictures and its sound to the senses that lack a file.

    Nothing is written. What cannot be read is told, the others are predicted, and the exit code is 1 then.

    Args:
        run: folder that `scmrl train` left.
        files: recordings, folders, manifests, or modality=path pairs that are one clip.
        json: print a JSON object a clip and line, with the probability of every class.
        root: folder that relative names of manifests start from; none: that of the manifest.
    """
    if not files:
        raise ValueError("nothing to predict; give files, a folder, a manifest, or modality=path pairs")

    from scmrl.engine.run_folder import read_experiment, require_readers

    # Before PyTorch is loaded, which takes seconds.
    read_experiment(run)
    require_readers(run)

    from scmrl.engine.clips import find_clips
    from scmrl.engine.open_run import open_run
    from scmrl.engine.predict import predict_clips
    from scmrl.printable import printable

    opened = open_run(run)
    clips = find_clips(files, opened.inputs.modalities, root)
    total = failed = 0
    for answer in predict_clips(opened, clips, debug="SCMRL_DEBUG" in os.environ):
        total += 1
        failed += bool(answer.fault)
        if json:
            print(as_json(answer), flush=True)
        elif not answer.fault:
            print(as_text(answer), flush=True)
        if answer.fault:
            print(f"scmrl: {printable(answer.fault)}", file=sys.stderr)
    if failed:
        print(f"scmrl: {failed} of {total} clips could not be predicted", file=sys.stderr)
    return 1 if failed else 0


def as_json(answer: ClipPrediction) -> str:
    """One line of JSON."""
    import json

    files = {name: str(path) for name, path in answer.clip.files.items()}
    if answer.fault:
        return json.dumps({"id": answer.clip.id, "files": files, "error": answer.fault})
    best = max(answer.probabilities, key=lambda name: answer.probabilities[name])
    return json.dumps(
        {
            "id": answer.clip.id,
            "files": files,
            "without": list(answer.without),
            "class": best,
            "probabilities": answer.probabilities,
        }
    )


def as_text(answer: ClipPrediction) -> str:
    """One line for people: the most probable classes, and what was missing."""
    from scmrl.printable import printable

    ranked = sorted(answer.probabilities.items(), key=lambda item: -item[1])[:SHOWN]
    classes = ", ".join(f"{printable(name)} {share:.1%}" for name, share in ranked)
    without = f" (without {', '.join(answer.without)})" if answer.without else ""
    return f"{printable(answer.clip.id)}: {classes}{without}"
