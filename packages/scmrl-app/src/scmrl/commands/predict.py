"""`scmrl predict`: predict the classes of new files with a run's model.

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

TOP = 3
"""Number of most probable classes to print."""


def predict(
    run: Path,
    /,
    *files: str,
    json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    root: Path | None = None,
) -> int:
    """Predict the classes of your files, read as in training; modalities may be missing.

    `image=cat.png audio=cat.wav` is one clip. In a folder or a list of files, files whose names differ only in their
    extension (and in folders named after modalities) are one clip. In a manifest, each row is one clip; columns named
    after modalities are read, a label is not needed. A video provides frames and audio for modalities without a file.

    Nothing is written. Unreadable files are reported and skipped; exits 1 if any clip failed.

    Args:
        run: run folder.
        files: recordings, folders, manifests, or modality=path pairs that are one clip.
        json: print one JSON object per clip and line, with the probability of every class.
        root: base folder of relative paths in manifests; none: the folder of the manifest.
    """
    if not files:
        raise ValueError("nothing to predict; give files, a folder, a manifest, or modality=path pairs")

    from scmrl.run_folder.files import read_experiment, require_readers

    # Checked before PyTorch is loaded, which takes seconds.
    read_experiment(run)
    require_readers(run)

    from scmrl.console.printable import printable
    from scmrl.engine.predict import predict_clips
    from scmrl.run_folder.clips import find_clips
    from scmrl.run_folder.open import open_run

    opened = open_run(run)
    clips = find_clips(files, opened.inputs.modalities, root)
    total = failed = 0
    for prediction in predict_clips(opened, clips, debug="SCMRL_DEBUG" in os.environ):
        total += 1
        failed += bool(prediction.fault)
        if json:
            print(to_json(prediction), flush=True)
        elif not prediction.fault:
            print(to_text(prediction), flush=True)
        if prediction.fault:
            print(f"scmrl: {printable(prediction.fault)}", file=sys.stderr)
    if failed:
        print(f"scmrl: {failed} of {total} clips could not be predicted", file=sys.stderr)
    return 1 if failed else 0


def to_json(prediction: ClipPrediction) -> str:
    """Format as one line of JSON."""
    import json

    files = {name: str(path) for name, path in prediction.clip.files.items()}
    if prediction.fault:
        return json.dumps({"id": prediction.clip.id, "files": files, "error": prediction.fault})
    best = max(prediction.probabilities, key=lambda name: prediction.probabilities[name])
    return json.dumps(
        {
            "id": prediction.clip.id,
            "files": files,
            "without": list(prediction.missing),
            "class": best,
            "probabilities": prediction.probabilities,
        }
    )


def to_text(prediction: ClipPrediction) -> str:
    """Format as one line: the most probable classes, and missing modalities."""
    from scmrl.console.printable import printable

    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])[:TOP]
    classes = ", ".join(f"{printable(name)} {probability:.1%}" for name, probability in ranked)
    missing = f" (without {', '.join(prediction.missing)})" if prediction.missing else ""
    return f"{printable(prediction.clip.id)}: {classes}{missing}"
