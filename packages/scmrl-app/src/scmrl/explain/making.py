"""Explain samples of a run into a folder."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from scmrl.config.data_access import DataAccess
from scmrl.console.progress import Progress
from scmrl.engine.evaluate import Split, without_augmentation
from scmrl.explain.explanation import explain
from scmrl.explain.features import MOST_SAMPLES, embedded, features, features_picture, neighbors_agree
from scmrl.explain.folder import FORMAT_VERSION, put_in_place, sample_folder, save, write_sample
from scmrl.explain.geometry import Floats
from scmrl.explain.page import Shown, about, page
from scmrl.explain.sampling import drawn, mistaken, named
from scmrl.run_folder.files import write_json, write_text
from scmrl.run_folder.open import open_run
from snn_datasets import DatasetInfo, Sample, SampleDataset, collate
from snn_fusion import FusionModel


def make(
    run: Path,
    out: Path,
    ids: list[str] | None,
    *,
    count: int,
    split: Split,
    wrong: bool,
    seed: int,
    access: DataAccess | None = None,
) -> list[str]:
    """Explain samples of one split, and all of it before and after fusion; a line for each sample.

    Args:
        run: the run's folder.
        out: folder to make, or to replace.
        ids: samples to explain; None draws `count`, among the mistakes if `wrong`.
        count: how many to draw.
        split: where they are from.
        wrong: see `ids`.
        seed: decides what is drawn, and the map of all samples.
        access: where the data are now.

    Raises:
        ValueError: no such samples, a damaged run, or a dataset that is no longer the run's.
        FileNotFoundError: the folder holds no model, or the dataset is not there.
    """
    opened = open_run(run, access)
    model = opened.model
    batch_size = opened.experiment.train.evaluation_batch_size
    with Progress.create() as progress:
        splits = opened.data(progress)
        dataset = without_augmentation(getattr(splits, split))
        if ids is not None:
            samples = named(dataset, ids, split)
        elif wrong:
            with progress.phase("looking for mistakes", len(dataset), "samples") as phase:
                candidates = mistaken(model, dataset, batch_size=batch_size, split=split)
                phase.advance(len(dataset))
            samples = drawn(dataset, candidates, count, seed=seed)
        else:
            samples = drawn(dataset, range(len(dataset)), count, seed=seed)
        with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=f".{out.name}-") as folder:
            made = Path(folder) / out.name
            made.mkdir()
            shown = _explained(model, samples, splits.info, made, progress)
            maps = _features(model, dataset, splits.info, made, progress, batch_size=batch_size, seed=seed)
            notes = [note for note in (*splits.info.notes, about(model)) if note]
            title = f"What the model looks at: {splits.info.name}, {split} split"
            write_text(made / "index.md", page(title, notes, shown))
            content = {
                "format_version": FORMAT_VERSION,
                "data": splits.info.name,
                "split": split,
                "seed": seed,
                "notes": notes,
                "samples": [
                    {
                        "id": each.id,
                        "folder": each.folder,
                        "answer": each.answer,
                        "label": each.label,
                        "right": each.right,
                    }
                    for each in shown
                ],
                "features": maps,
            }
            write_json(made / "explain.json", content)
            put_in_place(made, out)
    return [each.line for each in shown]


def _explained(
    model: FusionModel, samples: list[Sample], info: DatasetInfo, folder: Path, progress: Progress
) -> list[Shown]:
    device = next(model.parameters()).device
    shown: list[Shown] = []
    with progress.phase("explaining", len(samples), "samples") as phase:
        for number, sample in enumerate(samples, start=1):
            batch = collate([sample])
            inputs = {name: x.to(device) for name, x in batch["inputs"].items() if name not in sample.absent}
            found = explain(model, inputs, info, label=sample.label)
            place = f"samples/{sample_folder(number, sample.id)}"
            absent = tuple(name for name in model.modalities if name in sample.absent)
            pictures = write_sample(folder / place, sample.id, found, absent)
            shown.append(Shown(sample.id, place, found, absent, pictures))
            phase.advance()
    return shown


def _features(
    model: FusionModel,
    dataset: SampleDataset,
    info: DatasetInfo,
    folder: Path,
    progress: Progress,
    *,
    batch_size: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Draw the maps of all samples; what explain.json says of them."""
    with progress.phase("asking about all samples", min(MOST_SAMPLES, len(dataset)), "samples") as phase:
        found = features(model, dataset, batch_size=batch_size, phase=phase)
    maps: list[Floats | None] = []
    with progress.phase("mapping all samples", len(found), "maps") as phase:
        for each in found:
            maps.append(embedded(each.values, seed=seed))
            phase.advance()
    save(features_picture(found, maps, info.classes), folder / "features.png")
    return [
        {
            "sense": each.sense,
            "stage": "after" if each.after else "before",
            "samples": len(each.labels),
            "neighbors_agree": neighbors_agree(each),
        }
        for each in found
    ]
