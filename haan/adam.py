"""Adam as one kernel a step: PyTorch's own fused one, without `torch.optim`.

Making any optimiser of `torch.optim` imports PyTorch's compiler, which nothing here uses and which takes a process
about as long as PyTorch itself does. The kernel is private to PyTorch: tests/haan/test_adam.py holds it against
`torch.optim.Adam`, bit by bit, and says so when a newer PyTorch moves it.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8

Moments = dict[str, Tensor]  # of one parameter: `step` [], float32, and `exp_avg` and `exp_avg_sq` of its shape


class Adam:
    """Adam of Kingma and Ba (2015), Algorithm 1, with their constants.

    lr: the learning rate. state: the moments of each parameter that has had a gradient, by its number. All lie where
    their parameter does, the count of steps, too, so that a step can be recorded as a CUDA graph.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float):
        self.parameters, self.lr = list(parameters), lr
        self.state: dict[int, Moments] = {}

    def forget_gradients(self) -> None:
        """As before the first backward pass."""
        for parameter in self.parameters:
            parameter.grad = None

    def begin(self) -> None:
        """Makes the moments that are missing, all of them zero: else a step does, of each parameter with a gradient."""
        for number in range(len(self.parameters)):
            self._moments(number)

    @torch.no_grad()
    def step(self) -> None:
        """One step along the parameters' gradients; a parameter without one stays."""
        moved = [number for number, parameter in enumerate(self.parameters) if parameter.grad is not None]
        if moved:
            self._take([self.parameters[number] for number in moved], [self._moments(number) for number in moved])

    def load(self, state: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Takes up the moments of another, which it shares where they lie on the same device. Raises KeyError."""
        parameters, names = dict(enumerate(self.parameters)), ("step", "exp_avg", "exp_avg_sq")
        self.state = {
            number: {name: state[number][name].to(parameters[number].device) for name in names}
            for number in sorted(state)
        }

    def _take(self, parameters: Sequence[Tensor], moments: Sequence[Moments]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        steps, firsts, seconds = ([one[name] for one in moments] for name in ("step", "exp_avg", "exp_avg_sq"))
        torch._foreach_add_(steps, 1)  # type: ignore[reportPrivateImportUsage]
        torch._fused_adam_(  # type: ignore[reportPrivateImportUsage]
            list(parameters),
            gradients,
            firsts,
            seconds,
            [],
            steps,
            lr=self.lr,
            beta1=_BETA1,
            beta2=_BETA2,
            weight_decay=0.0,
            eps=_EPS,
            amsgrad=False,
            maximize=False,
        )

    def _moments(self, number: int) -> Moments:
        if number not in self.state:
            like = self.parameters[number]
            first, second = (torch.zeros_like(like, memory_format=torch.preserve_format) for _ in range(2))
            step = torch.zeros((), dtype=torch.float32, device=like.device)
            self.state[number] = {"step": step, "exp_avg": first, "exp_avg_sq": second}
        return self.state[number]
