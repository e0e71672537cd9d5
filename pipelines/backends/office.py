"""LibreOffice as a back end: Word files become PDF files, in a profile of its own, without macros or network."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from got_jax.errors import GotError, require

INSTALL = "apt-get install libreoffice-writer-nogui"


def program() -> str:
    """LibreOffice's command; nothing when it is not here."""
    return shutil.which("soffice") or shutil.which("libreoffice") or ""


def missing() -> str:
    """What this machine lacks for the back end, with the command that installs it; nothing if all is here."""
    return "" if program() else f"LibreOffice is missing; install it with `{INSTALL}`."


def to_pdf(data: bytes, seconds: float = 120.0) -> bytes:
    """The PDF of a .docx file.

    Raises:
        GotError: when LibreOffice is missing, takes too long, or refuses the file.
    """
    lacking = missing()
    require(not lacking, lacking)
    with tempfile.TemporaryDirectory(prefix="got-office-") as folder:
        Path(folder, "page.docx").write_bytes(data)
        command = [program(), "--headless", "--norestore", f"-env:UserInstallation=file://{folder}/profile"]
        command += ["--convert-to", "pdf", "--outdir", folder, str(Path(folder, "page.docx"))]
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={"PATH": os.environ.get("PATH", ""), "HOME": folder},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise GotError(f"LibreOffice takes over {seconds:g} s for the file.") from None
        made = Path(folder, "page.pdf")
        require(made.exists(), "LibreOffice makes no PDF of the file; is it a Word file?")
        return made.read_bytes()
