"""Adam, AdamW and SGD as one kernel a step: PyTorch's own fused ones, without `torch.optim`; learning rates, averages.

Making any optimiser of `torch.optim` imports PyTorch's compiler, which nothing here uses and which takes a process
about as long as PyTorch itself does. The kernels are private to PyTorch: tests/haan/test_optimiser.py holds each
against its namesake in `torch.optim`, bit by bit, and says so when a newer PyTorch moves it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from haan.config import Optim

_PRIVATE: Any = torch  # the kernels are not among the names that its types know
_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8  # of Adam and AdamW
_STEP, _FIRST, _SECOND, _MOMENTUM = "step", "exp_avg", "exp_avg_sq", "momentum_buffer"  # as torch.optim names them
_AVERAGE, _MASS = "average", "average_mass"  # of the weights, from zeros on, and of ones in the same way

Moments = dict[str, Tensor]  # of one parameter


def learning_rates(optim: Optim, epoch: int, steps: int, restart: int | None = None) -> list[float] | None:
    """Those of an epoch's steps, a function of the epoch alone; None where it is `optim.lr` throughout.

    epoch: counts from 1. steps: of an epoch. restart: epochs after which the schedule, which is as long, begins anew.
    With t steps taken in all, w in the warm-up and s in the whole schedule, the rate is (t + 1) / w of `optim.lr` while
    t < w. Then p = (t - w) / (s - w) of the rest is done, and the rate is that times 1 - p (linear), 1 (constant) or
    (1 + cos(pi p)) / 2 (cosine). Behind the schedule p is 1.
    """
    if not optim.varies:
        return None
    warm, whole = optim.warmup_epochs * steps, (restart or optim.schedule_epochs or optim.epochs) * steps
    done = (epoch - 1) % restart if restart else epoch - 1
    taken = range(done * steps, (done + 1) * steps)
    return [
        optim.lr * ((t + 1) / warm if t < warm else _share(optim.schedule, min((t - warm) / (whole - warm), 1.0)))
        for t in taken
    ]


def _share(schedule: str, done: float) -> float:
    """Of the highest learning rate, once a part of the schedule is done."""
    if schedule == "linear":
        return 1 - done
    return (1 + math.cos(math.pi * done)) / 2 if schedule == "cosine" else 1.0


class Optimiser:
    """Adam of Kingma and Ba (2015), Algorithm 1, with their constants; AdamW of Loshchilov and Hutter (2019); or SGD.

    What `optim.weight_decay` is a part of: with `adamw` of the weights, which lose it a step, times the learning rate;
    else of the gradients (L2). `optim.clip_norm`: the longest that all gradients together may be. state: the moments of
    each parameter that has had a gradient, by its number. All lie where their parameter does, the count of steps, too,
    so that a step can be recorded as a CUDA graph.

    With `optim.ema_epochs` the moments hold a mean of the weights after each step, too, of which a step of so many
    epochs ago weighs exp(-1) of the last one (Polyak and Juditsky 1992, with Adam's correction of its beginning).
    """

    def __init__(self, parameters: Iterable[Tensor], optim: Optim, epoch_steps: int = 1):
        """epoch_steps: steps of an epoch."""
        self.parameters, self._optim = list(parameters), optim
        self.state: dict[int, Moments] = {}
        self._share = 1 - math.exp(-1 / (optim.ema_epochs * epoch_steps)) if optim.ema_epochs else None
        self._one = torch.ones((), device=self.parameters[0].device) if self._share else None

    def forget_gradients(self) -> None:
        """As before the first backward pass."""
        for parameter in self.parameters:
            parameter.grad = None

    def begin(self) -> None:
        """Makes the moments that are missing, all of them zero: else a step does, of each parameter with a gradient."""
        for number in range(len(self.parameters)):
            self._moments(number)

    def restart(self) -> None:
        """As before the first step; the moments stay where graphs read them."""
        for moments in self.state.values():
            for value in moments.values():
                value.zero_()

    @torch.no_grad()
    def step(self, rate: Float[Tensor, ""] | None = None) -> None:
        """One step along the parameters' gradients; a parameter without one stays.

        rate: this step's learning rate, where it is not `optim.lr`; float32, on the parameters' device.
        """
        moved = [number for number, parameter in enumerate(self.parameters) if parameter.grad is not None]
        if not moved:
            return
        parameters = [self.parameters[number] for number in moved]
        if self._optim.clip_norm is not None:
            clip_grad_norm_(parameters, self._optim.clip_norm)
        take = self._take_sgd if self._optim.kind == "sgd" else self._take_adam
        moments = [self._moments(number) for number in moved]
        take(parameters, moments, self._optim.lr if rate is None else rate)
        if self._share is not None:
            means = [one[name] for name in (_AVERAGE, _MASS) for one in moments]
            _PRIVATE._foreach_lerp_(means, [*parameters, *[self._one] * len(moments)], self._share)

    @torch.no_grad()
    def averages(self) -> list[Tensor] | None:
        """The mean of each parameter, a new tensor; its own where it was never moved. None where none are kept."""
        if self._share is None:
            return None
        found = [parameter.clone() for parameter in self.parameters]
        for number, moments in self.state.items():
            mass = moments[_MASS]
            found[number] = torch.where(mass > 0, moments[_AVERAGE] / mass, found[number])
        return found

    def load(self, state: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Takes up the moments of another, which it shares where they lie on the same device. Raises KeyError."""
        parameters = dict(enumerate(self.parameters))
        self.state = {
            number: {name: state[number][name].to(parameters[number].device) for name in self._names}
            for number in sorted(state)
        }

    @property
    def _names(self) -> tuple[str, ...]:
        """Of a parameter's moments."""
        means = () if self._share is None else (_AVERAGE, _MASS)
        if self._optim.kind == "sgd":
            return ((_MOMENTUM,) if self._optim.momentum else ()) + means
        return _STEP, _FIRST, _SECOND, *means

    def _take_adam(self, parameters: Sequence[Tensor], moments: Sequence[Moments], rate: float | Tensor) -> None:
        steps, firsts, seconds = ([one[name] for one in moments] for name in (_STEP, _FIRST, _SECOND))
        _PRIVATE._foreach_add_(steps, 1)
        kernel = _PRIVATE._fused_adamw_ if self._optim.kind == "adamw" else _PRIVATE._fused_adam_
        kernel(
            list(parameters),
            [parameter.grad for parameter in parameters],
            firsts,
            seconds,
            [],
            steps,
            lr=rate,
            beta1=_BETA1,
            beta2=_BETA2,
            weight_decay=self._optim.weight_decay,
            eps=_EPS,
            amsgrad=False,
            maximize=False,
        )

    def _take_sgd(self, parameters: Sequence[Tensor], moments: Sequence[Moments], rate: float | Tensor) -> None:
        _PRIVATE._fused_sgd_(
            list(parameters),
            [parameter.grad for parameter in parameters],
            [one[_MOMENTUM] for one in moments if _MOMENTUM in one],
            weight_decay=self._optim.weight_decay,
            momentum=self._optim.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,  # it would only copy the gradient, which a momentum of zero comes to as well
        )

    def _moments(self, number: int) -> Moments:
        if number not in self.state:
            like = self.parameters[number]
            self.state[number] = {
                name: torch.zeros((), dtype=torch.float32, device=like.device)
                if name in (_STEP, _MASS)
                else torch.zeros_like(like, memory_format=torch.preserve_format)
                for name in self._names
            }
        return self.state[number]
