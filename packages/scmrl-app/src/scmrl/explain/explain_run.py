"""Explain samples of a run and write the results into a folder."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from scmrl.config.data_access import DataAccess
from scmrl.console.progress import Progress
from scmrl.engine.evaluate import without_augmentation
from scmrl.explain.explanation import explain_sample
from scmrl.explain.features import MAX_SAMPLES, embed, extract_features, features_figure, neighbor_agreement
from scmrl.explain.folder import FORMAT_VERSION, replace_folder, sample_folder_name, save_figure, write_sample
from scmrl.explain.geometry import Float32Array
from scmrl.explain.page import ExplainedSample, method_note, render_markdown
from scmrl.explain.sampling import draw_samples, misclassified, samples_by_id
from scmrl.run_folder.files import write_json, write_text
from scmrl.run_folder.open import open_run
from snn_datasets import DatasetInfo, Sample, SampleDataset
from snn_datasets.base.dataset import Split
from snn_fusion import FusionModel


def explain_run(
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
    """Explain samples of one split, and map all of it before and after fusion; returns a line per sample.

    Args:
        run: the run's folder.
        out: folder to write or replace.
        ids: samples to explain; None draws `count` samples, misclassified ones if `wrong`.
        count: number of samples to draw.
        split: split of the samples.
        wrong: see `ids`.
        seed: of the draw and of the t-SNE maps.
        access: overrides of where the data are.

    Raises:
        ValueError: there are no such samples, the run is damaged, or the dataset has changed since the training.
        FileNotFoundError: the folder holds no model, or the dataset is missing.
    """
    opened = open_run(run, access)
    model = opened.model
    batch_size = opened.experiment.train.evaluation_batch_size
    with Progress.create() as progress:
        splits = opened.data(progress)
        dataset = without_augmentation(getattr(splits, split))
        if ids is not None:
            samples = samples_by_id(dataset, ids, split)
        elif wrong:
            with progress.phase("searching for mistakes", len(dataset), "samples") as phase:
                candidates = misclassified(model, dataset, batch_size=batch_size, split=split)
                phase.advance(len(dataset))
            samples = draw_samples(dataset, candidates, count, seed=seed)
        else:
            samples = draw_samples(dataset, range(len(dataset)), count, seed=seed)
        with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=f".{out.name}-") as parent:
            folder = Path(parent) / out.name
            folder.mkdir()
            explained = _explain_samples(model, samples, splits.info, folder, progress)
            maps = _map_features(model, dataset, splits.info, folder, progress, batch_size=batch_size, seed=seed)
            notes = [note for note in (*splits.info.notes, method_note(model)) if note]
            title = f"Explained predictions: {splits.info.name}, {split} split"
            write_text(folder / "index.md", render_markdown(title, notes, explained))
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
                        "prediction": each.prediction,
                        "label": each.label,
                        "correct": each.correct,
                    }
                    for each in explained
                ],
                "features": maps,
            }
            write_json(folder / "explain.json", content)
            replace_folder(folder, out)
    return [each.line for each in explained]


def _explain_samples(
    model: FusionModel, samples: list[Sample], info: DatasetInfo, folder: Path, progress: Progress
) -> list[ExplainedSample]:
    explained: list[ExplainedSample] = []
    with progress.phase("explaining", len(samples), "samples") as phase:
        for number, sample in enumerate(samples, start=1):
            explanation = explain_sample(model, sample, info)
            name = f"samples/{sample_folder_name(number, sample.id)}"
            absent = tuple(name for name in model.modalities if name in sample.absent)
            figures = write_sample(folder / name, sample.id, explanation, absent)
            explained.append(ExplainedSample(sample.id, name, explanation, absent, figures))
            phase.advance()
    return explained


def _map_features(
    model: FusionModel,
    dataset: SampleDataset,
    info: DatasetInfo,
    folder: Path,
    progress: Progress,
    *,
    batch_size: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Draw the t-SNE maps of all samples; returns their entries in explain.json."""
    with progress.phase("extracting features", min(MAX_SAMPLES, len(dataset)), "samples") as phase:
        features = extract_features(model, dataset, batch_size=batch_size, phase=phase)
    maps: list[Float32Array | None] = []
    with progress.phase("mapping features", len(features), "maps") as phase:
        for each in features:
            maps.append(embed(each.values, seed=seed))
            phase.advance()
    save_figure(features_figure(features, maps, info.classes), folder / "features.png")
    return [
        {
            "modality": each.modality,
            "stage": "after" if each.is_fused else "before",
            "samples": len(each.labels),
            "neighbor_agreement": neighbor_agreement(each),
        }
        for each in features
    ]
