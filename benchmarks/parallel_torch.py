"""The same language model in PyTorch, by DistributedDataParallel over gloo: run by parallel.py, prints a line of JSON.

python benchmarks/parallel_torch.py '{"processes": 2, "threads": 1, "steps": 60, "V": 103, "E": 64, "H": 256, "L": 1, "B": 32}'
"""  # noqa: E501

from __future__ import annotations

import json
import os
import socket
import sys
import time

from statistics import median

import torch

from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel


class Model(nn.Module):
    def __init__(self, V: int, E: int, H: int, L: int):
        super().__init__()
        self.embedding, self.recurrent, self.output = nn.Embedding(V, E), nn.LSTM(E, H, L), nn.Linear(H, V)

    def forward(self, ids, state):
        ys, state = self.recurrent(self.embedding(ids), state)
        return self.output(ys), state


def work(rank: int, port: int, processes: int, threads: int, steps: int, V: int, E: int, H: int, L: int, B: int):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = Model(V, E, H, L)
    if processes > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        distributed.init_process_group("gloo", rank=rank, world_size=processes)
        model = DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    ids = torch.randint(0, V, (33, B // processes))
    state, times = None, []
    for _ in range(steps):
        start = time.perf_counter()
        logits, state = model(ids[:-1], state)
        state = tuple(s.detach() for s in state)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        times.append(time.perf_counter() - start)
    if rank == 0:
        print(json.dumps({"ms": {"step": 1e3 * median(times[steps // 3 :])}}), flush=True)
    if processes > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    if options["processes"] == 1:
        work(0, port, **options)
    else:
        multiprocessing.spawn(work, (port, *options.values()), options["processes"])
