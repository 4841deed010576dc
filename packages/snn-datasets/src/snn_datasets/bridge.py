"""The transforms of torchaudio and torchvision as stages, by name.

    {kind: torchaudio, transform: TimeMasking, time_mask_param: 8}
    {kind: torchvision, transform: RandomErasing, p: 0.5, scale: [0.02, 0.1]}

The other fields are the transform's arguments, checked against its signature when the stage is made. Neither library is
imported before one of its transforms is named. What a transform draws is decided by the stage's `Draw` alone.
"""

# torchaudio and torchvision have no stubs, and torch leaves some of its own signatures open.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
from __future__ import annotations

import inspect
import json
import random
from abc import abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, model_validator

from snn_datasets.recordings import Image, Video, Waveform
from snn_datasets.stage import Draw, Stage

if TYPE_CHECKING:
    from torch import Tensor


class LibraryTransform(Stage):
    """A transform of another library; the fields that are not named here are its arguments."""

    model_config = ConfigDict(extra="allow")
    draws: ClassVar[bool] = True
    library: ClassVar[str]
    """Its name, which is also that of the extra of this package that brings it."""
    namespace: ClassVar[str]
    """The module of its transforms."""

    transform: str
    """Name of the transform's class."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The transform's arguments by name."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _refuse_what_it_does_not_take(self) -> Self:
        _built(self.library, self.namespace, self.transform, json.dumps(self.arguments, sort_keys=True))
        return self

    def fingerprint(self) -> dict[str, Any]:
        """What decides the outcome, the version of the library included."""
        return {**super().fingerprint(), "library": version(self.library)}

    def __call__(self, value: Any, draw: Draw) -> Any:
        """Apply the transform.

        Raises:
            ValueError: it does not take such a value.
        """
        import torch

        transform = _built(self.library, self.namespace, self.transform, json.dumps(self.arguments, sort_keys=True))
        inputs = self._tensor_of(value)
        try:
            with _seeded(draw.generator().initial_seed()), torch.no_grad():
                made = transform(inputs)
        except Exception as error:  # transforms raise errors of every type
            raise ValueError(
                f"{self.library}'s {self.transform} cannot transform {type(value).__name__} of shape "
                f"{tuple(inputs.shape)}: {error}; correct its arguments or its place among the stages"
            ) from error
        # Some return the lengths beside the sound.
        made = made[0] if isinstance(made, tuple) and made else made
        if not isinstance(made, torch.Tensor) or made.is_complex():
            what = "complex numbers" if isinstance(made, torch.Tensor) else type(made).__name__
            raise ValueError(f"{self.library}'s {self.transform} gives {what}, and a stage gives real tensors")
        return self._recording_of(made.as_subclass(torch.Tensor), value)

    @abstractmethod
    def _tensor_of(self, value: object) -> Tensor:
        """What the transform takes, free to be changed; raises ValueError where the value is of another kind."""

    @abstractmethod
    def _recording_of(self, made: Tensor, value: object) -> object:
        """A recording like the value, where what the transform made still is one; else the tensor."""

    def _refuse(self, value: object, takes: str) -> ValueError:
        return ValueError(
            f"{self.library}'s {self.transform} takes {takes}, but {type(value).__name__} comes in; use it on another "
            "modality, or after a stage that makes a tensor"
        )


class TorchaudioTransform(LibraryTransform):
    """A transform of `torchaudio.transforms`, on sound or on a spectrogram.

    Shape: `Waveform` [channels, L] -> `Waveform` where it gives [channels, L'], else a tensor; tensor -> tensor
    """

    library: ClassVar[str] = "torchaudio"
    namespace: ClassVar[str] = "torchaudio.transforms"
    kind: Literal["torchaudio"] = "torchaudio"
    """Names this stage."""

    def _tensor_of(self, value: object) -> Tensor:
        import torch

        if isinstance(value, torch.Tensor):
            return value.clone()
        if not isinstance(value, Waveform):
            raise self._refuse(value, "sound or a tensor")
        if self.transform == "Resample" and self.arguments.get("orig_freq", 16_000) != value.rate:
            raise ValueError(f"torchaudio's Resample is told another orig_freq than the {value.rate} Hz that come in")
        return torch.from_numpy(value.samples.copy())

    def _recording_of(self, made: Tensor, value: object) -> object:
        if not isinstance(value, Waveform) or made.dim() != 2:
            return made
        rate = int(self.arguments.get("new_freq", 16_000)) if self.transform == "Resample" else value.rate
        return Waveform(made.float().numpy(), rate)


class TorchvisionTransform(LibraryTransform):
    """A transform of `torchvision.transforms.v2`, on a picture, a video, or a tensor [..., C, H, W].

    Shape: `Image` [C, H, W] or `Video` [F, C, H, W] -> the same with another size or content, if it gives bytes, else a
    tensor; tensor -> tensor
    """

    library: ClassVar[str] = "torchvision"
    namespace: ClassVar[str] = "torchvision.transforms.v2"
    kind: Literal["torchvision"] = "torchvision"
    """Names this stage."""

    def _tensor_of(self, value: object) -> Tensor:
        import torch
        from torchvision import tv_tensors

        match value:
            case torch.Tensor():
                return value.clone()
            case Image():
                return tv_tensors.Image(torch.from_numpy(value.pixels.copy()))
            case Video():
                return tv_tensors.Video(torch.from_numpy(value.frames.copy()))
            case _:
                raise self._refuse(value, "a picture, a video or a tensor")

    def _recording_of(self, made: Tensor, value: object) -> object:
        import torch

        if isinstance(value, Image) and made.dtype == torch.uint8 and made.dim() == 3:
            return Image(made.numpy())
        if isinstance(value, Video) and made.dtype == torch.uint8 and made.dim() == 4:
            if len(made) != len(value.times):
                raise ValueError(f"torchvision's {self.transform} changes the number of frames, whose times are known")
            return replace(value, frames=made.numpy())
        return made


@lru_cache(maxsize=64)
def _built(library: str, namespace: str, name: str, arguments: str) -> Any:
    """A transform with its arguments, as JSON.

    Raises:
        ValueError: the library cannot be imported, or there is no such transform, or it does not take the arguments.
    """
    import torch

    module = _imported(library, namespace)
    known = {
        each: cls
        for each, cls in vars(module).items()
        if isinstance(cls, type) and issubclass(cls, torch.nn.Module) and not inspect.isabstract(cls)
    }
    if name not in known:
        raise ValueError(f"{namespace} has no transform {name!r}{_near(name, known)}")
    keywords = json.loads(arguments)
    parameters = inspect.signature(known[name]).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        for argument in keywords:
            if argument not in parameters:
                listed = ", ".join(parameters) or "none"
                raise ValueError(
                    f"{library}'s {name} has no argument {argument!r}{_near(argument, parameters)}; it takes: {listed}"
                )
    for argument, parameter in parameters.items():
        is_named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if is_named and parameter.default is parameter.empty and argument not in keywords:
            raise ValueError(f"{library}'s {name} needs the argument {argument!r}")
    try:
        return known[name](**keywords)
    except Exception as error:  # constructors raise errors of every type
        raise ValueError(f"{library}'s {name} refuses its arguments {arguments}: {error}") from error


def _imported(library: str, namespace: str) -> Any:
    try:
        return import_module(namespace)
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        try:
            installed = f"{library} {version(library)}"
        except PackageNotFoundError:
            raise ValueError(
                f'{library} is not installed; install it with: pip install "snn-datasets[{library}]"'
            ) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{installed} cannot be imported beside PyTorch {version('torch')} ({reason}); install builds of the two "
            "for the same CUDA version, or leave the transform out"
        ) from error


def _near(name: str, known: Any) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


@contextmanager
def _seeded(seed: int) -> Generator[None, None, None]:
    """Let the global generators that transforms draw from begin at a seed within the block, and go on as before it."""
    import torch

    before, plain_before = torch.get_rng_state(), random.getstate()
    torch.default_generator.manual_seed(seed)  # that of the CPU alone
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)
        random.setstate(plain_before)
