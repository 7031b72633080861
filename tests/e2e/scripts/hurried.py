"""Runs an unmodified SDK script: hurried.py SCRIPT ARGUMENTS.

The SDK asks how a job does every 5, 10 or 30 seconds, which no setting of its own changes: for its module that waits,
seconds are a tenth as long. Nothing else notices.
"""

import runpy
import sys
import time

import sagemaker.session

FASTER = 10
BEGUN = time.time()


class Clock:
    def __getattr__(self, name):
        return getattr(time, name)

    def sleep(self, seconds):
        time.sleep(seconds / FASTER)

    def time(self):
        return BEGUN + (time.time() - BEGUN) * FASTER


if sagemaker.session.time is time:
    sagemaker.session.time = Clock()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
