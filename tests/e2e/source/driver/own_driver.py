"""A user's own distributed driver: runs the entry script with one variable more."""

import json
import os
import subprocess
import sys

given = json.loads(os.environ["SM_HPS"])
words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
environ = {**os.environ, "OWN_DRIVER": f"of {len(json.loads(os.environ['SM_HOSTS']))}"}
sys.exit(subprocess.run([sys.executable, os.environ["SM_ENTRY_SCRIPT"], *words], env=environ).returncode)
