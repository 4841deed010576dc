"""Variants of a fusion that studies compare, by name. Imports no PyTorch."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from scmrl.config.experiment import Experiment
from scmrl.config.overlay.faults import did_you_mean
from snn_fusion import METHODS, CCSSASpec

VariantOptions = dict[str, str]
"""Options that override an experiment's, as on the command line."""

UNIMODAL: Mapping[str, str] = {"model.fusion.kind": "none", "model.alignment": "none"}
"""For a single modality: there is nothing to fuse or align."""


def all_variants(experiment: Experiment) -> dict[str, VariantOptions]:
    """Return the options of every variant, by name: each modality alone, every method, S-CMRL without its parts.

    Raises:
        ValueError: data with one modality only.
    """
    modalities = experiment.data.selected_modalities()
    if len(modalities) < 2:
        raise ValueError(
            "the study compares ways to fuse modalities, but data.modalities is "
            f"{', '.join(modalities) or 'not set'}: name two or more"
        )
    variants: dict[str, VariantOptions] = {
        f"{modality} alone": {"data.modalities": modality, **UNIMODAL} for modality in modalities
    }
    model = experiment.model
    for combine in ("add", "concat"):
        variants[combine] = {**UNIMODAL, "model.readout.combine": combine}
        if model.init != "uncalibrated":
            # Calibration serves the layers between modalities; without such layers it may cost accuracy.
            variants[f"{combine} uncalibrated"] = {**variants[combine], "model.init": "uncalibrated"}
    for kind, method in METHODS.specs().items():
        if kind not in ("none", "ccssa"):
            alignment = {} if method.makes_residuals else {"model.alignment": "none"}
            variants[kind] = {"model.fusion.kind": kind, **alignment}
    ccssa = {"model.fusion.kind": "ccssa"}
    variants["ccssa"] = ccssa
    default = model.fusion.attention if isinstance(model.fusion, CCSSASpec) else "spatiotemporal"
    for attention in ("spatial", "temporal", "spatiotemporal"):
        if attention != default:
            variants[f"ccssa {attention}"] = {**ccssa, "model.fusion.attention": attention}
    if model.alignment is not None:
        variants["ccssa without alignment"] = {**ccssa, "model.alignment": "none"}
    if model.init != "calibrated_fusion":
        variants["ccssa calibrated between modalities"] = {**ccssa, "model.init": "calibrated_fusion"}
    published = {**ccssa, "model.init": "uncalibrated", "model.fusion.head_merge": "published"}
    variants["ccssa as published"] = published
    if model.alignment is not None:
        variants["ccssa as published without alignment"] = {**published, "model.alignment": "none"}
    return variants


def select_variants(experiment: Experiment, names: Sequence[str]) -> dict[str, VariantOptions]:
    """Return the variants with these names, in the order of the names.

    Raises:
        ValueError: an unknown or repeated name, or data with one modality only.
    """
    variants = all_variants(experiment)
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"--variants {name}: duplicate name; keep one")
        if name not in variants:
            raise ValueError(
                f"--variants {name}: no such variant{did_you_mean(name, variants)}; choose from: {', '.join(variants)}"
            )
    return {name: variants[name] for name in names}


def describe_variants(experiment: Experiment, *, command: str) -> str:
    """List every variant with its options, one per line, and how to select some.

    Raises:
        ValueError: data with one modality only.
    """
    variants = all_variants(experiment)
    width = max(map(len, variants))
    lines = [f"{len(variants)} variants of this study, and the options of each:"]
    for name, options in variants.items():
        text = " ".join(f"--{field} {value}" for field, value in options.items())
        lines.append(f"  {name.ljust(width)}  {text}")
    examples = ["add", *[name for name in variants if name.startswith("ccssa")][:2]]
    lines.append(f"docs/methods.md describes the methods and their sources. To select variants: {command} \\")
    lines.append(f"    --variants {shlex.quote(','.join(examples))}")
    return "\n".join(lines)
