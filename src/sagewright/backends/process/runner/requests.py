"""What Sagewright asks of a running runner: files in the record folder, and SIGTERM to look at them sooner.

    stop   end the program: SIGTERM now, SIGKILL after the grace
    kill   end it at once; the record is about to be removed

Files, because a request must survive both sides: it is seen even if the signal was never sent. Signals are kept
blocked and taken synchronously, so that nothing is ever interrupted in the middle.
"""

from __future__ import annotations

import os
import signal

STOP = "stop"
KILL = "kill"
_WATCHED = (signal.SIGTERM, signal.SIGCHLD)
_IGNORED = (signal.SIGHUP, signal.SIGINT)


class Stopped(Exception):
    """A request came before the program was started."""


class Requests:
    """Reads requests from the current working directory."""

    def __init__(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, (*_WATCHED, *_IGNORED))

    def stop(self) -> bool:
        return os.path.exists(STOP) or self.kill()

    def kill(self) -> bool:
        return os.path.exists(KILL)

    def wait(self, seconds: float) -> None:
        """Until a child ended, a request came, or the time is over."""
        signal.sigtimedwait(_WATCHED, max(0.0, seconds))

    def pause(self, seconds: float) -> None:
        """Like `wait`, while the program is not yet started: raises Stopped instead of going on in vain."""
        self.wait(seconds)
        self.check()

    def check(self) -> None:
        if self.stop():
            raise Stopped
