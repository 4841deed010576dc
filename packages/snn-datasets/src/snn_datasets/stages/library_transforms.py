"""The transforms of torchaudio and torchvision as stages, by name.

    {kind: torchaudio, transform: TimeMasking, time_mask_param: 8}
    {kind: torchvision, transform: RandomErasing, p: 0.5, scale: [0.02, 0.1]}

The other fields are the transform's arguments, checked against its signature when the stage is created. Each library is
imported on first use. A transform's random numbers depend only on the stage's `Draw`.
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

from snn_datasets.base.recordings import Image, Video, Waveform
from snn_datasets.base.stage import Draw, Stage

if TYPE_CHECKING:
    from torch import Tensor


class LibraryTransform(Stage):
    """A transform of another library; all further fields are its arguments."""

    model_config = ConfigDict(extra="allow")
    draws: ClassVar[bool] = True
    library: ClassVar[str]
    """Name of the library and of the extra of this package that installs it."""
    namespace: ClassVar[str]
    """Module of its transforms."""

    transform: str
    """Class name of the transform."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The transform's arguments by name."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _check_arguments(self) -> Self:
        _instantiate(self.library, self.namespace, self.transform, json.dumps(self.arguments, sort_keys=True))
        return self

    def fingerprint(self) -> dict[str, Any]:
        """Return what determines the output, including the version of the library."""
        return {**super().fingerprint(), "library": version(self.library)}

    def __call__(self, value: Any, draw: Draw) -> Any:
        """Apply the transform."""
        import torch

        transform = _instantiate(
            self.library, self.namespace, self.transform, json.dumps(self.arguments, sort_keys=True)
        )
        inputs = self._tensor_of(value)
        try:
            with _seeded(draw.generator().initial_seed()), torch.no_grad():
                output = transform(inputs)
        except Exception as error:  # transforms raise errors of every type
            raise ValueError(
                f"{self.library}'s {self.transform} cannot transform {type(value).__name__} of shape "
                f"{tuple(inputs.shape)}: {error}; correct its arguments or its position among the stages"
            ) from error
        # Some transforms return the lengths as well.
        output = output[0] if isinstance(output, tuple) and output else output
        if not isinstance(output, torch.Tensor) or output.is_complex():
            what = "complex numbers" if isinstance(output, torch.Tensor) else type(output).__name__
            raise ValueError(f"{self.library}'s {self.transform} returns {what}, but a stage must return a real tensor")
        return self._recording_of(output.as_subclass(torch.Tensor), value)

    @abstractmethod
    def _tensor_of(self, value: object) -> Tensor:
        """Return a copy of the value as the transform's input; raises ValueError for another kind of value."""

    @abstractmethod
    def _recording_of(self, output: Tensor, value: object) -> object:
        """Return the output as a recording of the value's type if it still is one, else as a tensor."""

    def _type_error(self, value: object, expected: str) -> ValueError:
        return ValueError(
            f"{self.library}'s {self.transform} takes {expected}, not {type(value).__name__}; use it on another "
            "modality, or after a stage that returns a tensor"
        )


class TorchaudioTransform(LibraryTransform):
    """A transform of `torchaudio.transforms`, on sound or on a spectrogram.

    Shape: `Waveform` [channels, L] -> `Waveform` if the output is [channels, L'], else a tensor; tensor -> tensor
    """

    library: ClassVar[str] = "torchaudio"
    namespace: ClassVar[str] = "torchaudio.transforms"
    kind: Literal["torchaudio"] = "torchaudio"
    """A torchaudio transform."""

    def _tensor_of(self, value: object) -> Tensor:
        import torch

        if isinstance(value, torch.Tensor):
            return value.clone()
        if not isinstance(value, Waveform):
            raise self._type_error(value, "sound or a tensor")
        if self.transform == "Resample" and self.arguments.get("orig_freq", 16_000) != value.rate:
            raise ValueError(f"torchaudio's Resample has another orig_freq than the rate of its input, {value.rate} Hz")
        return torch.from_numpy(value.samples.copy())

    def _recording_of(self, output: Tensor, value: object) -> object:
        if not isinstance(value, Waveform) or output.dim() != 2:
            return output
        rate = int(self.arguments.get("new_freq", 16_000)) if self.transform == "Resample" else value.rate
        return Waveform(output.float().numpy(), rate)


class TorchvisionTransform(LibraryTransform):
    """A transform of `torchvision.transforms.v2`, on an image, a video, or a tensor [..., C, H, W].

    Shape: `Image` [C, H, W] or `Video` [F, C, H, W] -> the same type if the output is uint8, else a tensor; tensor ->
    tensor
    """

    library: ClassVar[str] = "torchvision"
    namespace: ClassVar[str] = "torchvision.transforms.v2"
    kind: Literal["torchvision"] = "torchvision"
    """A torchvision transform."""

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
                raise self._type_error(value, "an image, a video or a tensor")

    def _recording_of(self, output: Tensor, value: object) -> object:
        import torch

        if isinstance(value, Image) and output.dtype == torch.uint8 and output.dim() == 3:
            return Image(output.numpy())
        if isinstance(value, Video) and output.dtype == torch.uint8 and output.dim() == 4:
            if len(output) != len(value.times):
                raise ValueError(f"torchvision's {self.transform} changes the number of frames, but not their times")
            return replace(value, frames=output.numpy())
        return output


@lru_cache(maxsize=64)
def _instantiate(library: str, namespace: str, name: str, arguments: str) -> Any:
    """Create a transform from its arguments as JSON.

    Raises:
        ValueError: the library cannot be imported, has no such transform, or the transform refuses the arguments.
    """
    import torch

    module = _imported(library, namespace)
    known = {
        each: cls
        for each, cls in vars(module).items()
        if isinstance(cls, type) and issubclass(cls, torch.nn.Module) and not inspect.isabstract(cls)
    }
    if name not in known:
        raise ValueError(f"{namespace} has no transform {name!r}{_suggestion(name, known)}")
    keywords = json.loads(arguments)
    parameters = inspect.signature(known[name]).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        for argument in keywords:
            if argument not in parameters:
                listed = ", ".join(parameters) or "none"
                raise ValueError(
                    f"{library}'s {name} has no argument {argument!r}{_suggestion(argument, parameters)}; it takes: "
                    f"{listed}"
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


def _suggestion(name: str, known: Any) -> str:
    matches = get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]}?" if matches else ""


@contextmanager
def _seeded(seed: int) -> Generator[None, None, None]:
    """Seed the global generators within the block, and restore their state."""
    import torch

    torch_state, python_state = torch.get_rng_state(), random.getstate()
    torch.default_generator.manual_seed(seed)  # the CPU generator only
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        random.setstate(python_state)
