"""Batch normalisation where a batch is not seen as one: by several processes, or by a network that sees examples alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from segsvc.training.group import Group

_Norm = torch.nn.modules.batchnorm._BatchNorm


def norms_of(network: torch.nn.Module) -> list[_Norm]:
    """The network's batch normalisations."""
    return [module for module in network.modules() if isinstance(module, _Norm)]


class RunningEvenly:
    """For a network that sees each example alone: running means and variances move once, by the mean over the examples.

    So they do not depend on the order of the examples, and those of several processes may be averaged. What an example is
    normalised by is its own.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self._norms = [norm for norm in norms_of(network) if norm.training and norm.track_running_stats]

    def __enter__(self) -> Self:
        self._momenta = [norm.momentum or 0.0 for norm in self._norms]
        self._before = [_running(norm).clone() for norm in self._norms]
        self._sums = [torch.zeros_like(before) for before in self._before]
        self._passes = [_passes(norm) for norm in self._norms]
        self._examples = 0
        for norm in self._norms:
            norm.momentum = 1.0  # what it holds after an example is what that example has
        return self

    def saw_one(self) -> None:
        """To be called after each example. A norm that it passed by counts as unmoved."""
        self._examples += 1
        for number, norm in enumerate(self._norms):
            passes = _passes(norm)
            self._sums[number] += _running(norm) if passes > self._passes[number] else self._before[number]
            self._passes[number] = passes

    def __exit__(self, *_: object) -> None:
        for norm, momentum, before, sums in zip(self._norms, self._momenta, self._before, self._sums, strict=True):
            norm.momentum = momentum
            if self._examples:  # new tensors: the gradient is still to be computed with the old ones
                mean, var = before.lerp(sums / self._examples, momentum)
                norm.running_mean, norm.running_var = mean.clone(), var.clone()


def _running(norm: _Norm) -> torch.Tensor:
    """(2, channels): mean and variance."""
    return torch.stack([each for each in (norm.running_mean, norm.running_var) if each is not None])


def _passes(norm: _Norm) -> int:
    return int(norm.num_batches_tracked) if norm.num_batches_tracked is not None else 0


class SynchronisedNorms(TorchFunctionMode):
    """While it is entered, batch normalisation has the statistics of the examples of all processes of the group.

    Whatever module asks for it: some encoders bring batch normalisations of their own, that end in an activation. torch's
    own SyncBatchNorm replaces modules, and works on GPUs alone. The processes' shares of a batch are of equal size.
    """

    def __init__(self, group: Group) -> None:
        super().__init__()
        self._group = group

    def __torch_function__(self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (),
                           kwargs: Mapping[str, Any] | None = None) -> Any:
        if func is functional.batch_norm:
            return _synchronised(self._group, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _synchronised(group: Group, input: torch.Tensor, running_mean: torch.Tensor | None, running_var: torch.Tensor | None,
                  weight: torch.Tensor | None = None, bias: torch.Tensor | None = None, training: bool = False,
                  momentum: float = 0.1, eps: float = 1e-5) -> torch.Tensor:
    """`torch.nn.functional.batch_norm` of this process's share (n, C, ...) of a batch."""
    if not training:
        return functional.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    normalised, mean, var = _Normalise.apply(input, weight, bias, eps, group)
    if running_mean is not None and running_var is not None:
        count = input.numel() // input.shape[1] * group.size
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((var * count / max(count - 1, 1)).to(running_var), momentum)
    result: torch.Tensor = normalised
    return result


class _Normalise(torch.autograd.Function):
    """Ioffe and Szegedy, "Batch Normalization" (2015), with means over the processes in both directions."""

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float,
                group: Group) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        exact = torch.promote_types(input.dtype, torch.float32)
        own_var, own_mean = (each.double() for each in torch.var_mean(input.to(exact), _but_channels(input), correction=0))
        joint = torch.stack([own_mean, own_var + own_mean.square()])  # of doubles: the squares may cancel
        group.mean_([joint])
        mean, var = joint[0], (joint[1] - joint[0].square()).clamp(min=0)
        ctx.save_for_backward(input, weight, mean.to(exact), (var + eps).rsqrt().to(exact))
        ctx.group = group
        ctx.mark_non_differentiable(mean, var)
        return functional.batch_norm(input, mean.to(exact), var.to(exact), weight, bias, eps=eps), mean, var

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        input, weight, mean, inverse_std = ctx.saved_tensors
        axes, shape = _but_channels(input), (1, -1, *(1,) * (input.ndim - 2))
        gradient = gradients[0].to(mean.dtype)
        normalised = (input.to(mean.dtype) - mean.view(shape)) * inverse_std.view(shape)
        along = gradient * normalised
        joint = torch.stack([gradient.mean(axes), along.mean(axes)]).double()
        ctx.group.mean_([joint])
        even, sloped = joint.to(mean.dtype)
        scale = inverse_std if weight is None else inverse_std * weight.to(mean.dtype)
        to_input = (gradient - even.view(shape) - normalised * sloped.view(shape)) * scale.view(shape)
        learns = weight is not None
        return (to_input.to(input.dtype), along.sum(axes) if learns else None, gradient.sum(axes) if learns else None,
                None, None)


def _but_channels(tensor: torch.Tensor) -> list[int]:
    return [0, *range(2, tensor.ndim)]
