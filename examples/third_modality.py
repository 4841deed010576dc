"""Add touch to an audio-visual model: one more entry in its spec; the trained modalities keep their weights."""

import torch

from snn_fusion import ModelSpec, calibrate

audio_visual = ModelSpec.model_validate(
    {
        "input_shapes": {"audio": (1, 16, 16), "visual": (3, 16, 16)},
        "num_classes": 4,
        "channels": 32,
        "fusion": {"num_heads": 4},
    }
)
two_modalities = audio_visual.build()  # assume that it has been trained

shapes = {**audio_visual.input_shapes, "touch": (8, 50)}  # 8 sensors, 50 readings
with_touch = ModelSpec.model_validate({**audio_visual.model_dump(), "input_shapes": shapes})
three_modalities = with_touch.build()
new = three_modalities.load_state_dict(two_modalities.state_dict(), strict=False)
assert not new.unexpected_keys
assert all("touch" in name for name in new.missing_keys)
print(f"{len(new.missing_keys)} of {len(three_modalities.state_dict())} tensors are new, all with touch in their name")

inputs = {"audio": torch.randn(64, 1, 16, 16), "visual": torch.randn(64, 3, 16, 16), "touch": torch.randn(64, 8, 50)}
calibrate(three_modalities, inputs)
output = three_modalities(inputs)
print("logits", tuple(output.logits.shape), "- touch reads", [s for t, s in output.residuals if t == "touch"])
