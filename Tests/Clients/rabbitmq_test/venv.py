"""The virtual environment with pika."""

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
VENV = f"{ROOT}/.build-clients"


def enter():
    """Starts this program again in the virtual environment, which is made if need be."""
    python = f"{VENV}/bin/python"
    if sys.prefix == VENV:
        return
    has_pika = os.path.exists(python) and subprocess.run([python, "-c", "import pika"], stderr=subprocess.DEVNULL)
    if not has_pika or has_pika.returncode != 0:
        subprocess.run(["python3", "-m", "venv", VENV], check=True)
        subprocess.run([f"{VENV}/bin/pip", "install", "--quiet", "--disable-pip-version-check", "pika"], check=True)
    os.execv(python, [python, *sys.argv])
