"""What every child process does first: its arguments, its log, its lifeline."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sagewright.app import lifeline, state
from sagewright.settings import DataDir, Settings, read_environment

_YOUNG: Final = 10_000  # objects between looks for cycles: requests and log lines make none


@dataclass(frozen=True, slots=True)
class Start:
    """What the supervisor told this child."""

    settings: Settings
    listen: int | None
    ready: int | None  # where to say that requests are answered


def start(role: str) -> Start:
    """Settings are those of the server (`state.load_settings`), not of this process's own making."""
    parser = argparse.ArgumentParser(prog=f"sagewright-{role}")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--listen", type=int)
    parser.add_argument("--ready", type=int)
    arguments = parser.parse_args()
    lifeline.hold(arguments.lifeline)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format=f"%(asctime)s {role} %(levelname)s %(name)s: %(message)s"
    )
    settings = read_environment(state.load_settings(DataDir(arguments.data)), os.environ)
    return Start(settings, arguments.listen, arguments.ready)


def settled() -> None:
    """What is loaded now lives as long as the process: no need to look at it again and again for garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG)
