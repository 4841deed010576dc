"""Three modalities of different shapes in one spiking network, one of them missing for some samples.

Needs only `pip install snn-fusion`. The data are generated here, and the example runs in a few seconds.
"""

import torch

from snn_fusion import ModelSpec, calibrate, residual_fractions

spec = ModelSpec.model_validate(
    {
        "input_shapes": {
            "audio": (1, 16, 16),
            "visual": (3, 16, 24),
            "touch": (8, 50),
        },  # touch: 8 sensors, 50 readings
        "encoders": {
            "audio": {"kind": "patch_splitting", "depth": "shallow"},  # 16 tokens
            "visual": {"kind": "patch_splitting", "depth": "shallow"},  # 24 tokens
            "touch": {"kind": "series", "num_stages": 2},  # 13 tokens
        },
        "num_classes": 4,
        "channels": 32,
        "fusion": {"kind": "ccssa", "num_heads": 4, "sharing": "source"},
    }
)
torch.manual_seed(0)
model = spec.build()

# Each class has its own wave in each modality: a pitch, a direction of stripes, a rhythm. Noise hides most of it.
k = torch.arange(1, 5)[:, None, None, None]
y, x, t = torch.arange(16)[:, None], torch.arange(24)[None], torch.arange(50)
patterns = {
    "audio": torch.sin(0.4 * k * y[:, :1]).expand(4, 1, 16, 16),
    "visual": torch.sin(torch.cos(k * 0.8) * y + torch.sin(k * 0.8) * x).expand(4, 3, 16, 24),
    "touch": torch.sin(0.3 * k[..., 0] * t).expand(4, 8, 50),
}
NOISE = {"audio": 2.5, "visual": 2.5, "touch": 2.0}


def draw(samples: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], torch.Tensor]:
    """Return inputs by modality, which samples have touch, and labels."""
    labels = torch.randint(4, (samples,))
    inputs = {
        name: pattern[labels] + NOISE[name] * torch.randn_like(pattern[labels]) for name, pattern in patterns.items()
    }
    return inputs, {"touch": torch.rand(samples) < 0.7}, labels


calibrate(model, draw(64)[0])
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
for _ in range(40):
    inputs, present, labels = draw(32)
    loss = model.total_loss(model(inputs, present), labels).total
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

model.eval()
inputs, _, labels = draw(400)
with torch.no_grad():
    for modalities in (("audio", "visual", "touch"), ("audio", "visual"), ("touch",)):
        logits = model({name: inputs[name] for name in modalities}).logits
        print(f"{' + '.join(modalities)}: {(logits.argmax(1) == labels).float().mean():.0%} of 400 samples")
for target, sources in residual_fractions(model, inputs).items():
    print(f"{target} consists of " + ", ".join(f"{share:.0%} {source}" for source, share in sources.items()))
