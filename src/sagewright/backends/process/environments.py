"""Python environments of folder images: what names one, and which package index settings a build sees.

Owns: the content hash, and the translation of the user's pip and uv settings. Does not own: the build itself, which is
the runner's (`runner.environment`), so that it goes on when Sagewright is killed.
"""

from __future__ import annotations

import configparser
import hashlib
import platform
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

_PASSED = (
    "HOME", "USER", "LANG", "TMPDIR", "NETRC", "CC", "CXX", "CFLAGS", "LDFLAGS", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# pip's option → (uv's variable, what stands between several values)
_FROM_PIP = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_EXTRA_INDEX_URL", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "constraint": ("UV_CONSTRAINT", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "proxy": ("ALL_PROXY", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
}


def key(requirements: str, python: str) -> str:
    """Name of the environment that has these requirements under this interpreter on this platform."""
    lines = (line.strip() for line in requirements.splitlines())
    wanted = "\n".join(line for line in lines if line and not line.startswith("#"))
    parts = (wanted, python, platform.python_version(), sys.implementation.cache_tag or "", sysconfig.get_platform())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def base_python() -> str:
    """The interpreter outside of any virtual environment, symbolic links resolved."""
    base: str = getattr(sys, "_base_executable", None) or sys.executable
    return str(Path(base).resolve())


def build_environ(environ: Mapping[str, str], environments: Path, python: str) -> dict[str, str]:
    """The environment variables of a build. Nothing else of `environ` gets there; none of it reaches a workload."""
    built = {name: environ[name] for name in _PASSED if name in environ}
    built |= _pip_settings(environ)
    built |= {name: value for name, value in environ.items() if name.startswith("UV_") and value}
    built["PATH"] = f"{Path(python).parent}:{environ.get('PATH', _SYSTEM_PATH)}"
    built.setdefault("HOME", str(environments / ".cache"))
    built.setdefault("UV_CACHE_DIR", str(environments / ".cache"))  # beside: files can be linked instead of copied
    return built | {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}


def _pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for file in _pip_files(environ):
        options |= _read_pip_file(file)
    options |= {
        name.removeprefix("PIP_").lower().replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("PIP_") and value
    }
    translated = {
        variable: between.join(options[option].split())
        for option, (variable, between) in _FROM_PIP.items()
        if options.get(option, "").strip()
    }
    if options.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        translated["UV_NO_INDEX"] = "1"
    if options.get("pre", "").lower() in ("1", "true", "yes", "on"):
        translated["UV_PRERELEASE"] = "allow"
    if "UV_EXTRA_INDEX_URL" in translated:  # pip takes the best of all indexes, uv by itself only of the first
        translated["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return translated


def _pip_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """pip's own order, later ones win: the machine, the user, PIP_CONFIG_FILE."""
    yield Path("/etc/pip.conf")
    if home := environ.get("HOME"):
        yield Path(home) / ".pip" / "pip.conf"
        yield Path(environ.get("XDG_CONFIG_HOME") or f"{home}/.config") / "pip" / "pip.conf"
    if named := environ.get("PIP_CONFIG_FILE"):
        yield Path(named)


def _read_pip_file(path: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(path)
    except (configparser.Error, OSError, UnicodeDecodeError):
        return {}  # pip itself refuses such a file; a build without it says what it misses
    found: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            found |= {name.replace("_", "-"): value or "" for name, value in parser.items(section)}
    return found
