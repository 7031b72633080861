"""The root file system that a workload sees: the host's, but for a few places that are its own.

    /             a folder of the record; the host's entries are bound into it
    /root         empty, the workload's own: the host user's keys and caches are not its business
    /opt          the host's, plus
    /opt/program      the image's folder, this workload's copy (working directory)
    /opt/environment  the built Python environment; writes go to an upper layer of this workload's
    /opt/ml           ... and every other mount of the workload, at its real path
    /etc/hosts    the host's with the instance's name and host.docker.internal (this machine) added
    /proc         of the workload's own PID namespace
    /dev/shm      its own, of the size asked for

A folder that has to gain an entry (a parent of a mount target) is rebuilt: a real folder of the record into which the
host's entries are bound one by one. So a target needs not exist on the host, and nothing is created there.
"""

from __future__ import annotations

import os

from . import peers, syscalls
from .network import HOST_NAME
from .task import CannotRun, Task

PROGRAM = "/opt/program"
ENVIRONMENT = "/opt/environment"
HOME = "/root"
_PROC = "/proc"


def enter(task: Task, record: str, machine: str) -> None:
    """Build the root inside this process's fresh mount namespace, and move into it."""
    root = f"{record}/rootfs"
    syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)  # first: nothing may leak to the host
    os.mkdir(root)
    syscalls.mount(root, root, flags=syscalls.MS_BIND)
    syscalls.mount("", root, flags=syscalls.MS_UNBINDABLE)  # it lies in what is bound into it: no copies of itself
    mounts = sorted((normal(target), source, ro, changes) for source, target, ro, changes in task.mounts)
    _lay_out(root, [target for target, _, _, _ in mounts])
    _own_places(root, record, task, machine)
    for target, source, read_only, changes in mounts:
        if changes:
            _mount_layered(source, root + target, changes, task)
        else:
            _mount(source, root, target, read_only)
    syscalls.pivot_into(root)
    syscalls.mount("", "/", flags=syscalls.MS_PRIVATE)


def normal(target: str) -> str:
    """A mount target without dots and double slashes. CannotRun when it is the root or not absolute."""
    path = os.path.normpath("/" + target.lstrip("/"))
    if not target.startswith("/") or path == "/" or ".." in target.split("/"):
        raise CannotRun("start", f"A folder cannot be mounted at {target!r}: give an absolute path below /.")
    return path


def _lay_out(root: str, targets: list[str]) -> None:
    replaced = {PROGRAM, ENVIRONMENT, HOME, _PROC, *targets}
    rebuilt = {"/"}
    for target in replaced:
        parents = _parents(target)
        if not any(parent in replaced for parent in parents):  # below another mount it lies in that mount's folder
            rebuilt.update(parents)
    _rebuild(root, "/", replaced, rebuilt - replaced)
    for path in sorted(rebuilt - replaced):
        os.makedirs(root + path, exist_ok=True)


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:length]) or "/" for length in range(1, len(parts))]


def _rebuild(root: str, path: str, replaced: set[str], rebuilt: set[str]) -> None:
    """Bind what the host has in `path` into `root`, leaving out what will be the workload's own."""
    with os.scandir(path) as entries:
        for entry in entries:
            inner = f"{path.rstrip('/')}/{entry.name}"
            if inner in replaced:
                continue
            if inner in rebuilt and entry.is_dir():
                os.mkdir(root + inner, 0o755)
                _rebuild(root, inner, replaced, rebuilt)
            else:
                _show(entry, root + inner)


def _show(entry: os.DirEntry[str], target: str) -> None:
    if entry.is_symlink():
        os.symlink(os.readlink(entry.path), target)
        return
    _mount_point(target, folder=entry.is_dir())
    try:
        syscalls.bind(entry.path, target)
    except OSError:  # a stale network mount, say: it is as unreachable inside as outside
        return


def _mount_point(path: str, *, folder: bool) -> None:
    if folder:
        os.makedirs(path, exist_ok=True)
    elif not os.path.lexists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))


def _own_places(root: str, record: str, task: Task, machine: str) -> None:
    os.mkdir(f"{record}/home", 0o700)
    _mount(f"{record}/home", root, HOME, False)
    for kept in task.keep:
        if _below(kept, HOME):
            _mount(kept, root, kept, True)
    _mount(f"{record}/program", root, PROGRAM, False)
    _mount_environment(root, record, task.environment_path, user_namespace=task.user_namespace)
    _mount_proc(root)
    _mount_shm(root, task.shared_memory)
    hosts = os.path.realpath("/etc/hosts")
    if os.path.exists(root + hosts):
        syscalls.bind(_hosts_file(record, task, machine, hosts), root + hosts)


def _below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")


def _mount(source: str, root: str, target: str, read_only: bool) -> None:
    if not os.path.exists(source):
        raise CannotRun("start", f"The folder {source}, to be seen at {target}, does not exist.")
    _mount_point(root + target, folder=os.path.isdir(source))
    syscalls.bind(source, root + target, read_only=read_only)


def _mount_environment(root: str, record: str, environment: str, *, user_namespace: bool) -> None:
    """The environment is shared by all workloads: what this one installs into it stays its own."""
    target = root + ENVIRONMENT
    os.makedirs(target, exist_ok=True)
    upper, work = f"{record}/environment", f"{record}/environment.work"
    os.mkdir(upper)
    os.mkdir(work)
    try:
        overlay(environment, upper, work, target, user_namespace=user_namespace)
    except OSError:
        syscalls.bind(environment, target, read_only=True)  # a file system without layers: then nothing can be added


def _mount_layered(source: str, target: str, changes: str, task: Task) -> None:
    _mount_point(target, folder=True)
    try:
        overlay(source, f"{changes}/upper", f"{changes}/work", target, user_namespace=task.user_namespace)
    except OSError as error:
        raise CannotRun("start", f"The folder {source} cannot be layered for {task.id}: {error}.") from error


def overlay(lower: str, upper: str, work: str, target: str, *, user_namespace: bool) -> None:
    """Show `lower` at `target`; what is changed there goes to `upper`. Raises OSError.

    A user namespace may keep its marks in `user.` attributes only. With redirects, which it may not have, folders of
    `lower` can be renamed as any other. An older kernel may know neither option.
    """
    layers = f"lowerdir={_escaped(lower)},upperdir={_escaped(upper)},workdir={_escaped(work)}"
    better = "userxattr" if user_namespace else "redirect_dir=on"
    try:
        syscalls.mount("overlay", target, "overlay", options=f"{layers},{better}")
    except OSError:
        syscalls.mount("overlay", target, "overlay", options=layers)


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")


def _mount_proc(root: str) -> None:
    target = root + _PROC
    os.makedirs(target, exist_ok=True)
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    try:
        syscalls.mount("proc", target, "proc", flags)
    except OSError:  # inside a container whose /proc is partly masked, the kernel allows no fresh one
        syscalls.bind(_PROC, target)


def _mount_shm(root: str, size: int | None) -> None:
    target = root + os.path.realpath("/dev/shm")
    if os.path.isdir(target):
        options = "mode=1777" + (f",size={size}" if size else "")
        syscalls.mount("shm", target, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, options)


def _hosts_file(record: str, task: Task, machine: str, hosts: str) -> str:
    """The host's names, and before them this machine's and those of the job's hosts."""
    with open(hosts, "rb") as file:
        present = f"{machine} {HOST_NAME}\n".encode() + file.read()
    path = f"{record}/hosts"
    if task.peers:
        peers.write_hosts(task, record, path, present)
    else:
        own = f"127.0.0.1 {' '.join(dict.fromkeys(['algo-1', task.hostname]))}\n" if task.hostname else ""
        with open(path, "wb") as file:
            file.write(own.encode() + present)
    os.chmod(path, 0o644)
    return path
