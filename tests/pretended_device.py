"""A device beside the CPU, whose tensors the CPU computes, but which must not meet the CPU's own.

Most machines that run the tests have no GPU, where code fails that forgot to move a tensor. This
device refuses what a GPU would refuse, and gives the very numbers of the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretended"
# torch takes no further device once it has computed a gradient.
backend_registration._setup_privateuseone_for_python_backend(NAME)

_aten = torch.ops.aten
# What a GPU does with tensors of the CPU among its own: copy them, and take them as an index.
_MAY_MIX = {_aten.copy_.default, _aten._to_copy.default, _aten.index.Tensor}


class _Pretended(Tensor):
    """A tensor on the device: `held` is the same on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, requires_grad: bool = False) -> _Pretended:
        made: _Pretended = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
            requires_grad=requires_grad,
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _compute(operation, args, kwargs or {})

    def __format__(self, specification: str) -> str:
        return format(self.held, specification)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Pretended:
        made = _Pretended(self.held.clone(), self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            made._is_param = True
        return memo.setdefault(id(self), made)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Store it as what `torch.load` makes of a GPU's tensors for the CPU."""
        return self.held.__reduce_ex__(protocol)


def _compute(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    there = [x for x in tensors if isinstance(x, _Pretended)]
    # A GPU takes single numbers from anywhere.
    here = [x for x in tensors if x.ndim and not isinstance(x, _Pretended)]
    if there and here and operation not in _MAY_MIX:
        raise RuntimeError(f"{operation} of tensors on {NAME} and on the CPU")
    device = kwargs.get("device")
    goes_there = bool(there) if device is None else torch.device(device).type == NAME
    if operation is _aten.copy_.default:
        goes_there = isinstance(args[0], _Pretended)
    if goes_there and device is not None:
        kwargs = {**kwargs, "device": "cpu"}
    args, kwargs = tree_map(lambda x: x.held if isinstance(x, _Pretended) else x, (args, kwargs))
    result = operation(*args, **kwargs)
    if not goes_there:
        return result
    same = {id(x.held): x for x in there}  # what was changed in place stays the same tensor

    def moved(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        return same[id(x)] if id(x) in same else _Pretended(x)

    return tree_map(moved, result)


class _Mode(TorchDispatchMode):
    """Lets tensors be made on the device, and moved to it."""

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _compute(operation, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """Lets `torch.tensor` make tensors on the device, which no `TorchDispatchMode` sees."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function is not torch.tensor:
            return function(*args, **kwargs)
        device = kwargs.pop("device", None)
        made = torch.tensor(*args, **kwargs)
        return made if device is None else made.to(device)


@contextmanager
def pretended_device() -> Iterator[torch.device]:
    """Give the device, which is there until the block ends."""
    with _Mode(), _Functions():
        yield torch.device(NAME, 0)
