"""Small runs, and their service over real HTTP."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Thread
from time import sleep

from anychannel.runs import RunConfig, train_run
from anychannel.serve import create_app
from anychannel.serve.server import Server, configure, listen

EVALUATED = ("R,G,B", "R,G", "B")
"""The first run's evaluated subsets; of the others nothing is known."""


def train(photos, out, **values):
    settings = {
        "epochs": 2,
        "batch_size": 16,
        "flip": False,
        "device": "cpu",
        "precision": "fp32",
        **values.pop("training", {}),
    }
    config = {"data": str(photos), "channels": ["R", "G", "B"], "size": 16, "model": "compact_k7", **values}
    config |= {"model_options": {"width": 16}, "training": settings}
    return train_run(RunConfig.from_dict(config), out, cost=False, cache_dir=out.parent / "cache")


@contextmanager
def serving(run, **options):
    """The service of a run on a free port of this machine, in a thread."""
    taken = listen("127.0.0.1", 0)
    server = Server(configure(create_app(run, **options)))
    thread = Thread(target=server.run, args=([taken],), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        sleep(0.01)
    try:
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        taken.close()
