"""Names of the published S-CMRL code's weights, translated into ours.

The authors store a block per direction (block 0: audio reads visual, block 1: visual reads audio), 1x1 convolutions
where we have linear layers, and members that never take part in the computation, which are left out here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_UNUSED = re.compile(r"(norm1|norm2|av_attention|res_lif|attn_drop)\.|\.act_fun\.|_lif\d?\.|num_batches_tracked")
_PARTS = (
    (r"proj_conv(\d)\.", r"stages.\1.conv."),
    (r"proj_bn(\d)\.", r"stages.\1.norm."),
    (r"rpe_conv\.", "position.conv."),
    (r"rpe_bn\.", "position.norm."),
    (r"q_conv\.", "query.linear."),
    (r"q_bn\.", "query.norm."),
    (r"k_conv\.", "key.linear."),
    (r"k_bn\.", "key.norm."),
    (r"v_conv\.", "value.linear."),
    (r"v_bn\.", "value.norm."),
    (r"proj_conv\.", "output.linear."),
    (r"proj_bn\.", "output.norm."),
    (r"fc1_conv\.", "expand.linear."),
    (r"fc1_bn\.", "expand.norm."),
    (r"fc2_conv\.", "contract.linear."),
    (r"fc2_bn\.", "contract.norm."),
    (r"trans_linear\.", "projection.linear."),
    (r"spatial_attn\.", "spatial."),
    (r"temporal_attn\.", "temporal."),
)


def translate_published(weights: Mapping[str, Tensor], *, attention: str = "spatiotemporal") -> dict[str, Tensor]:
    """Weights under the authors' names -> the same weights under ours.

    Args:
        weights: the authors' state dict, of a whole audio-visual model or of one of its parts.
        attention: `spatial` or `temporal` where the model has one attention only: both use the same names.

    Returns:
        what takes part in the computation, by our names; 1x1 convolutions as matrices.
    """
    return {
        _translate(name, attention): tensor.squeeze(-1) if tensor.dim() == 3 else tensor
        for name, tensor in weights.items()
        if not _UNUSED.search(name)
    }


def _translate(name: str, attention: str) -> str:
    name = re.sub(r"(audio|visual)_patch_embed\.", r"encoders.\1.", name)
    name = re.sub(r"^block\.0\.", "fusion.readers.audio_reads_visual.", name)
    name = re.sub(r"^block\.1\.", "fusion.readers.visual_reads_audio.", name)
    name = re.sub(r"^mlp\.0\.(mlp\.)?", "readout.mlps.audio.", name)
    name = re.sub(r"^mlp\.1\.(mlp\.)?", "readout.mlps.visual.", name)
    name = re.sub(r"^head\.", "readout.head.", name)
    if "encoders." in name or name.startswith("patch_embed."):
        # The first patch-splitting stage has no number, and shares its name with attention's output layer.
        name = re.sub(r"\bproj_(conv|bn)\.", r"proj_\g<1>0.", name)
    name = re.sub(r"\battn\.(?=(q|k|v|proj)_)", f"{attention}.", name).replace("attn.s", "s").replace("attn.t", "t")
    for pattern, ours in _PARTS:
        name = re.sub(rf"\b{pattern}", ours, name)
    return name
