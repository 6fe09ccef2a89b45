"""A network of somebody else's class that takes any subset of its channels, and stays an object of its class.

As torch's parametrizations do, ``make_adaptive`` gives an object a subclass of its own class. Their ``forward`` begins
with ours: it takes raw images and the names of their channels, and draws subsets in training mode. Attributes,
configuration, outputs and the other arguments of ``forward`` are theirs. Our own properties and methods (``PUBLIC``)
are added where their class has no attribute of the same name.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from anychannel.channels import ChannelSet
from anychannel.nn.adaptive_conv import AdaptiveConv2d
from anychannel.nn.classifier import INPUT, Classifier
from anychannel.nn.embedding import embed
from anychannel.nn.forward_pass import continue_pass, find_conv, run_pass, stem_paths
from anychannel.nn.loading import fill_in_statistics, strip_prefix
from anychannel.nn.subset_context import is_passing

ENTRIES = ("forward", "forward_features", "forward_intermediates", "get_intermediate_layers", "extract_features")
"""Methods that take images, where a class has them."""

IMAGES = ("images", "image", "pixel_values", "x", "input", "inputs", "img")
"""Names of the argument with the images, of a ``forward(*args, **kwargs)``."""

PUBLIC = ("channels", "classes", "spec", "stem", "channel_sampling", "last_subsets", "specialize", "embed")
"""Properties and methods that an adapted network has in addition to its own."""

CONV = "_anychannel_conv"
"""Second name, outside the state dict, of the module in the place of the first convolution."""


class ChannelAdaptive(nn.Module):
    """Base of the classes that ``make_adaptive`` makes, for ``isinstance``."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copied and pickled by the original class, since this one is made at run time."""
        kind = type(self)
        return restore, (kind.original, kind.hidden), self.__getstate__()  # type: ignore[no-untyped-call]

    original: type[nn.Module]
    hidden: tuple[str, ...]

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As ``Classifier.load_state_dict``."""
        options = {"assign": True} if assign else {}  # not every network's own method takes it
        return super().load_state_dict(strip_prefix(self, state_dict), strict=strict, **options)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        entrance = conv_of(self).channel_input
        for path in stem_paths(self):
            inside = f"{path}.{INPUT}" if path else INPUT
            stem = [f"{path}.stem.{name}" for name, _ in conv_of(self).stem.named_buffers(recurse=False)]
            names = [*(inside + name for name in entrance._buffers), *stem]
            fill_in_statistics(self, state_dict, prefix, entrance, names, inside)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def conv_of(network: nn.Module) -> AdaptiveConv2d:
    """The module in the place of the first convolution."""
    conv: AdaptiveConv2d = network.__dict__[CONV]
    return conv


def make_adaptive(network: nn.Module) -> ChannelAdaptive:
    """Give a network whose first convolution is an ``AdaptiveConv2d`` the class that makes it adaptive, in place.

    ValueError if its ``forward`` has arguments called ``channels`` or ``present``.
    """
    kind = type(network)
    taken = sorted({"channels", "present"} & set(inspect.signature(kind.forward).parameters))
    if taken:
        raise ValueError(
            f"{kind.__name__}.forward has an argument {taken[0]!r} of its own, which adapt would have to add; wrap the "
            "network in a module without it"
        )
    hidden = tuple(name for name in PUBLIC if hasattr(network, name))
    network.__dict__[CONV] = find_conv(network)
    network.__class__ = adaptive_class(kind, hidden)  # type: ignore[arg-type]
    assert isinstance(network, ChannelAdaptive)
    return network


def restore(original: type[nn.Module], hidden: tuple[str, ...]) -> ChannelAdaptive:
    """An empty object for ``copy`` and ``pickle``."""
    kind = adaptive_class(original, hidden)  # type: ignore[arg-type]
    return kind.__new__(kind)


@functools.cache
def adaptive_class(original: type[nn.Module], hidden: tuple[str, ...]) -> type[ChannelAdaptive]:
    """The subclass of a network's class; ``hidden`` are names of ``PUBLIC`` that the network uses itself."""
    members: dict[str, Any] = {name: entry(original, name) for name in ENTRIES if hasattr(original, name)}
    if hasattr(original, "forward_head"):
        members["forward_head"] = later_part(original, "forward_head")
    members |= {name: value for name, value in vars(Additions).items() if name in PUBLIC and name not in hidden}
    members |= {"original": original, "hidden": hidden, "__module__": original.__module__, "__doc__": original.__doc__}
    if hasattr(original, "__deepcopy__"):  # fx.GraphModule's makes its own class
        members["__deepcopy__"] = copy_whole
    made: type[ChannelAdaptive] = type(f"Adaptive{original.__name__}", (ChannelAdaptive, original), members)
    return made


def copy_whole(self: ChannelAdaptive, memo: dict[int, Any]) -> ChannelAdaptive:
    """A deep copy, whatever the original class would do."""
    made = restore(type(self).original, type(self).hidden)
    memo[id(self)] = made
    made.__dict__.update(copy.deepcopy(self.__dict__, memo))
    return made


def entry(original: type[nn.Module], name: str) -> Callable[..., Any]:
    """A method that takes raw images, in the place of one that takes normalised ones."""
    inner = getattr(original, name)
    signature = inspect.signature(inner)
    parameters = list(signature.parameters.values())
    images = image_argument(parameters[1:])

    @functools.wraps(inner)
    def call(self: nn.Module, *args: Any, channels: Any = None, present: Any = None, **kwargs: Any) -> Any:
        conv = self.__dict__.get(CONV)
        if conv is None or is_passing(conv.channel_input):
            return inner(self, *args, **kwargs)
        if args:
            return run_pass(self, conv, lambda x: inner(self, x, *args[1:], **kwargs), args[0], channels, present)
        named = images if images in kwargs else next((name for name in IMAGES if name in kwargs), images)
        if named not in kwargs:
            return inner(self, **kwargs)  # raises the TypeError of its own signature
        rest = {key: value for key, value in kwargs.items() if key != named}
        return run_pass(self, conv, lambda x: inner(self, **{named: x}, **rest), kwargs[named], channels, present)

    own = [inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY, default=None) for each in ("channels", "present")]
    last = [each for each in parameters if each.kind is inspect.Parameter.VAR_KEYWORD]
    before = [each for each in parameters if each not in last]
    call.__signature__ = signature.replace(parameters=[*before, *own, *last])  # type: ignore[attr-defined]
    return call


def image_argument(parameters: Sequence[inspect.Parameter]) -> str:
    """The name of the argument with the images: the first that has a name."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = [each.name for each in parameters if each.kind in kinds]
    return named[0] if named else IMAGES[0]


def later_part(original: type[nn.Module], name: str) -> Callable[..., Any]:
    """A method that takes the features of this thread's last pass."""
    inner = getattr(original, name)

    @functools.wraps(inner)
    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        conv = self.__dict__.get(CONV)
        if conv is None or is_passing(conv.channel_input):
            return inner(self, *args, **kwargs)
        return continue_pass(conv, lambda: inner(self, *args, **kwargs))

    return call


def shared(name: str) -> property:
    """A property of ``Classifier`` for an adapted network."""

    def read(self: nn.Module) -> Any:
        return getattr(Classifier(self), name)

    def write(self: nn.Module, value: Any) -> None:
        setattr(Classifier(self), name, value)

    found = getattr(Classifier, name)
    return property(read, None if found.fset is None else write, doc=found.__doc__)


class Additions:
    """The properties and methods in ``PUBLIC``."""

    channels = shared("channels")
    classes = shared("classes")
    spec = shared("spec")
    stem = shared("stem")
    channel_sampling = shared("channel_sampling")
    last_subsets = shared("last_subsets")

    def specialize(self: Any, channels: ChannelSet | str | Sequence[str]) -> nn.Module:
        """A plain PyTorch module for one subset; see ``Classifier.specialize``."""
        return Classifier(self).specialize(channels)

    def embed(self: Any, images: Tensor, channels: Any = None, *, present: Any = None) -> Tensor:
        """Embeddings (B, D); see ``Classifier.embed``."""
        embedded: Tensor = run_pass(self, conv_of(self), lambda x: embed(self, x), images, channels, present)
        return embedded
