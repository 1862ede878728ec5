"""What a real root and its clusters do now and then, each by a name, at random by a seed.

Each trap has a stream of chance of its own, so what one does is not changed by another's turns.
"""

import random
import threading

# Name: how often at each opportunity, and what happens.
TRAPS: dict[str, tuple[float, str]] = {
    "failed_services": (0.15, "200 with failed_services; the service is gone again"),
    "lost_instances": (1.0, "deploys of a service that overlap get the same number: one is lost"),
    "doubled_names": (0.1, "two services of one name from one request"),
    "late_states": (0.3, "a report of a cluster leaves out an instance"),
    "stale_status": (1.0, "a job's own status stays what it was first"),
    "token_expiry": (0.03, "all tokens expire before their time"),
    "restart_loop": (1.0, "what ended is started again, without limit: one-shots too unless they ended well"),
    "root_restart": (0.004, "the root is down for a while, and knows no token after it; state is kept"),
    "cluster_flap": (0.01, "a cluster does not report for a while; what runs there goes on"),
    "slow": (0.1, "an answer takes its time"),
    "errors": (0.05, "500, and nothing was done"),
    "lost_answers": (0.04, "done, but the answer is 500"),
    "stuck": (0.05, "an instance stays CLUSTER_SCHEDULED for ever"),
}


class Traps:
    def __init__(self, names: str, seed: int):
        self._lock = threading.Lock()
        self._odds: dict[str, float] = {}
        self._chance = {name: random.Random(f"{seed}/{name}") for name in TRAPS}
        self.sprung: dict[str, int] = dict.fromkeys(TRAPS, 0)
        for name in parse(names):
            self.set(name, TRAPS[name][0])

    def set(self, name: str, odds: float) -> None:
        if name not in TRAPS:
            raise ValueError(f"no trap {name!r}; there are: {', '.join(TRAPS)}")
        with self._lock:
            self._odds[name] = odds

    def odds(self) -> dict[str, float]:
        with self._lock:
            return {name: odds for name, odds in self._odds.items() if odds > 0}

    def springs(self, name: str) -> bool:
        with self._lock:
            odds = self._odds.get(name, 0.0)
            hit = odds > 0 and self._chance[name].random() < odds
            self.sprung[name] += hit
            return hit

    def between(self, name: str, low: float, high: float) -> float:
        with self._lock:
            return self._chance[name].uniform(low, high)


def parse(names: str) -> list[str]:
    if names == "none":
        return []
    chosen = list(TRAPS) if names == "all" else [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in TRAPS:
            raise ValueError(f"no trap {name!r}; there are: {', '.join(TRAPS)}")
    return chosen
