"""Two tasks that want a GPU each, and last until both have run at once for so many seconds; run on the head.

A lost machine's task starts again.
"""

import sys
import time

import ray

TASKS = 2


class Started:
    """Counts the tasks that have started, a second start included; it lives on the head, which isn't lost."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, number: int) -> int:
        self.count += number
        return self.count


@ray.remote(num_cpus=1, num_gpus=1, max_retries=-1)
def on_a_gpu(seconds: float, started: "ray.actor.ActorHandle") -> str:
    ray.get(started.add.remote(1))
    while ray.get(started.add.remote(0)) < TASKS:  # else one machine could run them one after the other
        time.sleep(0.5)
    time.sleep(seconds)
    return ray.util.get_node_ip_address()


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


ray.init(address="auto", log_to_driver=False)
cpus = {node["NodeManagerAddress"]: node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]}
say(f"CPUs before: {cpus}")
started = ray.remote(Started).options(num_cpus=0, resources={"node:__internal_head__": 0.001}).remote()
tasks = [on_a_gpu.remote(float(sys.argv[1]), started) for _ in range(TASKS)]
while ray.get(started.add.remote(0)) < TASKS:
    time.sleep(0.5)
say("both run")
say(f"ran on: {' '.join(sorted(ray.get(tasks)))}")
say(f"starts: {ray.get(started.add.remote(0))}")
