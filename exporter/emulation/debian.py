"""Debian packages, downloaded and unpacked into folders of our own; nothing is installed.

apt-get gets a configuration, a list of sources and state folders that belong to this download, so
it needs no rights, and the system's package lists stay as they are. It checks Debian's signatures
as always.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from exporter.emulation.tools import run_tool
from exporter.errors import EmulationError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "http://deb.debian.org/debian"
_CONFIGURATION = """\
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::Cache "{folder}/cache";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
Dir::State "{folder}/state";
Dir::State::status "/dev/null";
"""


def fetch_packages(
    folder: Path, release: str, architecture: str, packages: Sequence[str], remedy: str
) -> tuple[Path, ...]:
    """Download ``packages`` of a release of Debian into ``folder``; return their files.

    Raises:
        EmulationError: there is no apt-get, no key, no network or no such package; the message
            ends with ``remedy``.
    """
    if not KEYRING.is_file():
        raise EmulationError(
            f"Debian's packages are checked with {KEYRING}, which is not here. "
            "Run: apt-get install debian-archive-keyring (Debian, Ubuntu)"
        )
    debs = folder / "debs"
    for needed in (debs, folder / "state/lists/partial", folder / "cache/archives/partial"):
        needed.mkdir(parents=True)
    (folder / "sources.list").write_text(
        f"deb [arch={architecture} signed-by={KEYRING}] {MIRROR} {release} main\n"
    )
    configuration = folder / "apt.conf"
    configuration.write_text(_CONFIGURATION.format(architecture=architecture, folder=folder))
    apt = ("apt-get", "-c", str(configuration), "-qq")
    doing = f"Downloading Debian's packages for {architecture}"
    run_tool([*apt, "update"], doing=doing, remedy=remedy)
    run_tool([*apt, "download", *packages], doing=doing, remedy=remedy, folder=debs)
    return tuple(sorted(debs.iterdir()))


def unpack(packages: Sequence[Path], folder: Path) -> None:
    """Unpack downloaded packages into ``folder``, as if it were the root of a system."""
    for package in packages:
        run_tool(
            ["dpkg-deb", "-x", str(package), str(folder)],
            doing=f"Unpacking {package.name}",
            remedy="Free some space, or try again.",
        )
