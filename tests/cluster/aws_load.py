"""Two tasks that want a GPU each and last for so many seconds; run on the head. A lost machine's task starts again."""

import sys
import time

import ray


@ray.remote(num_cpus=1, num_gpus=1, max_retries=-1)
def on_a_gpu(seconds: float) -> str:
    time.sleep(seconds)
    return ray.util.get_node_ip_address()


ray.init(address="auto", log_to_driver=False)
before = {node["NodeManagerAddress"]: node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]}
sys.stdout.write(f"CPUs before: {before}\n")
sys.stdout.flush()
addresses = ray.get([on_a_gpu.remote(float(sys.argv[1])) for _ in range(2)])
sys.stdout.write(f"ran on: {' '.join(sorted(addresses))}\n")
