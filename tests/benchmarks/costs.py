"""Where the time goes: `python -m tests.benchmarks.costs step|epoch [--size middle] [--threads 1]`.

A step by PyTorch's operations, an epoch by Python's functions as well; both by their own time, without what they call.
"""

import argparse
import cProfile
import pstats

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from tests.benchmarks.measure import threads
from tests.benchmarks.sizes import SIZES, make_trainer

STEPS, LINES = 50, 25


def main() -> None:
    """Runs once to warm up, then under the profiler."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.benchmarks.costs")
    parser.add_argument("work", choices=["step", "epoch"])
    parser.add_argument("--size", choices=list(SIZES), default="middle")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    with threads(given.threads):
        trainer, rng = make_trainer(SIZES[given.size]), np.random.default_rng(0)
        trainer.train_epoch()
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
        with profile(activities=activities) as operations:
            if given.work == "step":
                for step in range(trainer.begin(rng.choice(SIZES[given.size].train, 2 * STEPS))):
                    trainer.train_step(step)
            else:
                functions = cProfile.Profile()
                functions.runcall(trainer.train_epoch)
                pstats.Stats(functions).sort_stats("tottime").print_stats(LINES)
    print(operations.key_averages().table(sort_by="self_cpu_time_total", row_limit=LINES, max_name_column_width=40))


if __name__ == "__main__":
    main()
