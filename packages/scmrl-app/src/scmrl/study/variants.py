"""Ways to fuse senses, by the names that studies know them by. Imports no PyTorch."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from scmrl.experiment import Experiment
from scmrl.overlay.faults import did_you_mean
from snn_fusion.specs import METHODS, CCSSASpec

Options = dict[str, str]
"""Options in place of an experiment's, as on the command line."""

ALONE: Mapping[str, str] = {"model.fusion.kind": "none", "model.alignment": "none"}
"""For a single sense: there is nothing to fuse or align."""


def every_variant(experiment: Experiment) -> dict[str, Options]:
    """Options by the name of the variant: each sense alone, every method, S-CMRL without its parts.

    Raises:
        ValueError: data of one sense only.
    """
    senses = experiment.data.selected_modalities()
    if len(senses) < 2:
        raise ValueError(
            f"the study compares ways to fuse senses, but data.modalities is {', '.join(senses) or 'not given'}: "
            "name two or more"
        )
    found: dict[str, Options] = {f"{sense} alone": {"data.modalities": sense, **ALONE} for sense in senses}
    model = experiment.model
    for combine in ("add", "concat"):
        found[combine] = {**ALONE, "model.readout.combine": combine}
        if model.init != "published":
            # Calibration is for what lies between senses; where nothing does, it may cost.
            found[f"{combine} uncalibrated"] = {**found[combine], "model.init": "published"}
    for kind, method in METHODS.specs().items():
        if kind not in ("none", "ccssa"):
            rest = {} if method.makes_residuals else {"model.alignment": "none"}
            found[kind] = {"model.fusion.kind": kind, **rest}
    ccssa = {"model.fusion.kind": "ccssa"}
    found["ccssa"] = ccssa
    asked = model.fusion.attention if isinstance(model.fusion, CCSSASpec) else "spatiotemporal"
    for attention in ("spatial", "temporal", "spatiotemporal"):
        if attention != asked:
            found[f"ccssa {attention}"] = {**ccssa, "model.fusion.attention": attention}
    if model.alignment is not None:
        found["ccssa without alignment"] = {**ccssa, "model.alignment": "none"}
    if model.init != "calibrated_fusion":
        found["ccssa calibrated between senses"] = {**ccssa, "model.init": "calibrated_fusion"}
    published = {**ccssa, "model.init": "published", "model.fusion.head_merge": "published"}
    found["ccssa as published"] = published
    if model.alignment is not None:
        found["ccssa as published without alignment"] = {**published, "model.alignment": "none"}
    return found


def chosen_variants(experiment: Experiment, names: Sequence[str]) -> dict[str, Options]:
    """The variants of those names, in the order of the names.

    Raises:
        ValueError: a variant that there is not or that is named twice, or data of one sense only.
    """
    every = every_variant(experiment)
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"--variants {name}: given twice; keep one")
        if name not in every:
            raise ValueError(
                f"--variants {name}: no such variant{did_you_mean(name, every)}; there are: {', '.join(every)}"
            )
    return {name: every[name] for name in names}


def describe_variants(experiment: Experiment, *, command: str) -> str:
    """Every variant with the options that make it, a line each, and how to choose some.

    Raises:
        ValueError: data of one sense only.
    """
    every = every_variant(experiment)
    width = max(map(len, every))
    lines = [f"{len(every)} variants of this study, each with the options that make it:"]
    for name, options in every.items():
        made = " ".join(f"--{field} {value}" for field, value in options.items())
        lines.append(f"  {name.ljust(width)}  {made}")
    last = [name for name in every if name.startswith("ccssa")][:2]
    lines.append(f"docs/methods.md says what each method is and where it is from. Some of them: {command} \\")
    lines.append(f"    --variants {shlex.quote(','.join(['add', *last]))}")
    return "\n".join(lines)
