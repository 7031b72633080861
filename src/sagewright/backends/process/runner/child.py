"""The forked child between the runner and the user's program: joins limits and namespaces, then becomes the program.

It runs as PID 1 of the workload's PID namespace (when the kernel grants namespaces). It reports to the runner through
a pipe that closes at exec: nothing read means the program runs, else a JSON list [cause, message].
"""

from __future__ import annotations

import json
import os
import resource
import signal
import traceback

from . import basedir, files, network, peers, program, rootfs, syscalls
from .cgroups import Group
from .task import CannotRun, Task

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OPEN_FILES = 1024 * 1024  # what engines give a container


def run(task: Task, record: str, group: Group, go: int, report: int) -> None:
    """Never returns."""
    try:
        if not os.read(go, 1):  # the runner died before it had written down who we are
            os._exit(1)
        group.join()
        _become(task, record)
    except CannotRun as error:
        _tell(report, error.cause, str(error))
    except BaseException as error:
        traceback.print_exc()  # into the runner's log
        _tell(report, "start", f"The program's surroundings could not be made: {error}.")
    finally:
        os._exit(127)


def _tell(report: int, cause: str, message: str) -> None:
    os.write(report, json.dumps([cause, message]).encode())


def _become(task: Task, record: str) -> None:
    os.setsid()
    log = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    machine = join_network(task)
    environment, home = enter(task, record, machine)
    path = f"{environment}/bin:{_SYSTEM_PATH}"
    env = {"PATH": path, "HOME": home, "LANG": "C.UTF-8"}
    if task.hostname:
        env["HOSTNAME"] = task.hostname
    if not task.namespaces and (base := basedir.make(task, record)):
        env["SAGEMAKER_BASE_DIR"] = base
    named = task.namespaces  # else there is no hosts file of its own that could have the name
    env.update({name: each if named else each.replace(network.HOST_NAME, machine) for name, each in task.env.items()})
    if not task.argv:
        raise CannotRun("start", f"The image {task.image} names no program: add it again with an entrypoint.")
    word = task.argv[0]
    folder = rootfs.PROGRAM if task.namespaces else f"{record}/program"
    found = program.locate(word, folder, env["PATH"], environment)
    program.check(found, word)
    # The word itself stays argv[0], as in a container; a PATH of the user's would lead Python to another environment.
    argv = [found if env["PATH"] != path else word, *task.argv[1:]]
    if task.peers:
        peers.gather(task, "/etc/hosts")
    _settle(log)
    program.become(found, argv, env)


def join_network(task: Task) -> str:
    """The address at which the program finds this machine. Its own address goes into the record."""
    if task.bridge:
        home = network.move_in(
            task.bridge, task.id, way_out=not task.isolated, alone_with_peers=task.isolated and not task.ports
        )
        files.write_text("address", f"{home.address}:{task.ports[0] if task.ports else 0}")
        return home.gateway
    if task.isolated:
        network.isolate()
    return "127.0.0.1"


def enter(task: Task, record: str, machine: str) -> tuple[str, str]:
    """(environment, home) as the program will see them; the working directory is the image's folder. `machine` is as
    `join_network` gave it."""
    if not task.namespaces:
        os.chdir("program")
        home = f"{record}/home"
        os.makedirs(home, exist_ok=True)
        return task.environment_path, home
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC)
    if task.hostname:
        syscalls.set_hostname(task.hostname)
    rootfs.enter(task, record, machine)
    os.chdir(rootfs.PROGRAM)
    return rootfs.ENVIRONMENT, rootfs.HOME


def _settle(log: int) -> None:
    """Standard streams, signals and limits as a container's first process has them."""
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.umask(0o022)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)  # what Python, or who started us, ignores would be passed on by exec
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
