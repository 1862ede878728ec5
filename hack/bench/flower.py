"""Flower 1.8.0's server and echo clients, for hack/bench/data.py (which runs this in its virtual environment).

flower.py server LEARNERS PARAMETERS ROUNDS    prints its port, then {"seconds": [of each round],
                                               "cpu_s", "peak_mb"}
flower.py echoes PORT LEARNERS                 as many clients, threads of one process"""

import json
import re
import socket
import sys
import threading
import time

import flwr
import numpy

TENSORS = 10
MESSAGE_MAX = 512 * 1024 * 1024


class Timed(flwr.server.strategy.FedAvg):
    """FedAvg that notes when a round was begun and when it was aggregated."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.seconds, self.began, self.cpu = [], 0, None

    def configure_fit(self, *args, **options):
        self.began = time.monotonic()
        self.cpu = self.cpu or time.process_time()
        return super().configure_fit(*args, **options)

    def aggregate_fit(self, server_round, results, failures):
        if failures:
            raise RuntimeError(f"{len(failures)} clients failed: {failures[0]}")
        result = super().aggregate_fit(server_round, results, failures)
        self.seconds.append(time.monotonic() - self.began)
        return result


def serve(learners, parameters, rounds):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    model = [numpy.ones(parameters // TENSORS, numpy.float32) for _ in range(TENSORS)]
    strategy = Timed(fraction_fit=1.0, fraction_evaluate=0.0, min_fit_clients=learners,
                     min_available_clients=learners, initial_parameters=flwr.common.ndarrays_to_parameters(model))
    print(port, flush=True)
    flwr.server.start_server(server_address=f"127.0.0.1:{port}", strategy=strategy, grpc_max_message_length=MESSAGE_MAX,
                             config=flwr.server.ServerConfig(num_rounds=rounds))
    peak = int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read()).group(1)) / 1024
    cpu = time.process_time() - strategy.cpu
    print(json.dumps({"seconds": strategy.seconds, "cpu_s": cpu, "peak_mb": peak}), flush=True)


class Echo(flwr.client.NumPyClient):
    def fit(self, parameters, config):
        return parameters, 1, {}


def connect(port):
    for _ in range(100):
        try:
            flwr.client.start_client(server_address=f"127.0.0.1:{port}", client=Echo().to_client(),
                                     grpc_max_message_length=MESSAGE_MAX, insecure=True)
            return
        except Exception:  # the server is not there yet
            time.sleep(0.2)


def echo(port, learners):
    threads = [threading.Thread(target=connect, args=(port,)) for _ in range(learners)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve(*(int(word) for word in sys.argv[2:]))
    else:
        echo(*(int(word) for word in sys.argv[2:]))
